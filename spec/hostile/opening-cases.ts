/** Ways of misbehaving before a session: bytes of any kind, and HELLOs of any form (R-OPEN-3 to R-OPEN-9, R-AUTH-1). */
import { randomBytes } from 'node:crypto';
import { FRAME_TYPE, writeHeader } from '../../lib/codec/header.js';
import { MAGIC } from '../../lib/codec/hello.js';
import type { ErrorCode } from '../../lib/errors.js';
import type { SocketPeer } from '../helpers/socket-peer.js';
import { FLOOD, type HostileCase, hostile } from './case.js';

/** The same 64 KiB or more, repeatedly. */
function repeated(piece: Buffer): () => Buffer {
  const batch = Buffer.concat(Array.from({ length: Math.ceil(65_536 / piece.length) }, () => piece));
  return () => batch;
}

/** Magic and the header of a HELLO of some length, without the payload. */
function bareHeader(length: number): Buffer {
  const bytes = Buffer.alloc(MAGIC.length + 16);
  MAGIC.copy(bytes);
  writeHeader(bytes, MAGIC.length, FRAME_TYPE.HELLO, 0, length, 0, 0);
  return bytes;
}

const FLOODS: readonly [what: string, next: (peer: SocketPeer) => () => Buffer][] = [
  ['random bytes', () => () => randomBytes(65_536)],
  ['zero bytes', () => repeated(Buffer.alloc(65_536))],
  ['a magic every 19 bytes', () => repeated(Buffer.concat([MAGIC, Buffer.from('abc')]))],
  ['the beginning of a magic every 15 bytes', () => repeated(MAGIC.subarray(0, 15))],
  ['headers of HELLO, each within the payload of the one before', () => repeated(bareHeader(4096))],
  ['headers of HELLO with a length of 4 GiB', () => repeated(bareHeader(0xffff_ffff))],
  ['HELLOs with a wrong checksum', (peer) => repeated(spoiled(peer.hello(), 28))],
  ['the same valid HELLO', (peer) => repeated(peer.hello())],
  ['frames of no session', (peer) => () => peer.frame(FRAME_TYPE.DATA, 1, Buffer.alloc(65_536))],
];

function spoiled(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = (copy[at] ?? 0) ^ 1;
  return copy;
}

const json = (peer: SocketPeer, ack: string, change: (text: string) => string): Buffer =>
  Buffer.from(change(JSON.stringify({ ...peer.helloFields, ack })));

/** Payloads of HELLO that JSON.stringify would not produce; each is skipped. */
const INVALID_TEXTS: readonly [what: string, payload: (peer: SocketPeer, ack: string) => Buffer][] = [
  ['4,000 open brackets', () => Buffer.from('['.repeat(4000))],
  ['1e999 as a limit', (peer, ack) => json(peer, ack, (text) => text.replace('"frame":131072', '"frame":1e999'))],
  ['limits in __proto__', (peer, ack) => json(peer, ack, (text) => text.replace('"limits"', '"__proto__"'))],
  [
    'a second nonce that is wrong',
    (peer, ack) => json(peer, ack, (text) => text.replace(/}$/, ',"nonce":"../../etc/passwd"}')),
  ],
];

/** Strange but valid fields in a HELLO: it establishes a session. */
const VALID: readonly [what: string, fields: Readonly<Record<string, unknown>>][] = [
  ['a thousand features', { features: Array.from({ length: 1000 }, () => '') }],
  ['a list of lists, 1,500 deep, in an unknown field', { odd: nested(1500) }],
];

function nested(depth: number): unknown[] {
  let value: unknown[] = [];
  for (let level = 1; level < depth; level += 1) value = [value];
  return value;
}

/** HELLOs that are refused: their connections were never sessions. */
const REFUSED: readonly [what: string, code: ErrorCode, fields: Readonly<Record<string, unknown>>][] = [
  ['a HELLO of an unknown version', 'version-mismatch', { version: { min: 2, max: 2 ** 53 } }],
  ['a HELLO that requires authentication', 'auth-failed', { auth: { method: '\u001b[2J' } }],
  ['a HELLO that requires TLS', 'auth-failed', { tls: true }],
];

/** HELLOs with a new nonce each, none of which acknowledges. */
function freshHellos(peer: SocketPeer): Buffer {
  const hellos = Array.from({ length: 100 }, () => {
    peer.renew();
    return peer.hello();
  });
  return Buffer.concat(hellos);
}

/** Nothing comes of it. */
const OPENING = { code: null, isOpening: true } as const;

/** Bytes and HELLOs without an end. */
export const OPENING_FLOODS: readonly HostileCase[] = [
  ...FLOODS.map(([what, next]) =>
    hostile(`${what} for ever, before there is a session`, OPENING, (peer) => peer.flood(next(peer), FLOOD)),
  ),
  ...['reads the answers', 'reads nothing'].map((reads) =>
    hostile(`HELLOs with ever new nonces, and ${reads}`, OPENING, async (peer) => {
      peer.isReading = reads !== 'reads nothing';
      await peer.flood(() => freshHellos(peer), FLOOD);
    }),
  ),
];

export const OPENING_CASES: readonly HostileCase[] = [
  hostile('the own HELLO of the process back to it', OPENING, async (peer) => {
    const nonce = await peer.otherNonce();
    await peer.flood(repeated(peer.hello({ nonce, ack: nonce })), { ...FLOOD, bytes: 2 ** 20 });
  }),
  ...INVALID_TEXTS.map(([what, payload]) =>
    hostile(`a HELLO that is, or has, ${what}`, OPENING, async (peer) =>
      peer.write(peer.rawHello(payload(peer, await peer.otherNonce()))),
    ),
  ),
  ...VALID.map(([what, fields]) =>
    hostile(`a HELLO with ${what}, which is valid`, { ...OPENING, sessionCount: 2 }, async (peer) => {
      await peer.establish(fields);
      await peer.ping();
    }),
  ),
  ...REFUSED.map(([what, code, fields]) =>
    hostile(what, { code, isOpening: true, sessionCount: 1 }, async (peer) =>
      peer.write(peer.hello({ ack: await peer.otherNonce(), ...fields })),
    ),
  ),
];
