/** Ways of misbehaving with single frames of a session: each has a code, and ends the session or does nothing. */
import { randomBytes } from 'node:crypto';
import type { FrameFaults } from '../../conformance/frame-maker.js';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { ERROR_CODES, type ErrorCode, type ErrorScope } from '../../lib/errors.js';
import type { SocketPeer } from '../helpers/socket-peer.js';
import { FLOOD, type HostileCase, hostile } from './case.js';

const { SERVICES, OPEN, REFUSE, DATA, FIN, STOP, RESET, PING, GOAWAY } = FRAME_TYPE;

const REASON = { code: 'cancelled', message: '' };

/** A frame to send while stream 1 is open to `echo`: type, stream id, payload, faults. */
type Sent = readonly [type: number, id: number, payload?: Buffer | object | undefined, faults?: FrameFaults];

/** Single frames that end the session: one for each kind of check, as conformance covers them all. */
const WRONG: readonly (readonly [what: string, code: ErrorCode, ...sent: Sent])[] = [
  ['a header with a wrong check', 'desync', PING, 0, Buffer.alloc(8), { hasWrongCheck: true }],
  ['a skipped sequence number', 'desync', FIN, 1, undefined, { sequence: 7 }],
  ['DATA with a wrong CRC', 'desync', DATA, 1, Buffer.from('x'), { crc: 1 }],
  ['type 00', 'peer-restarted', 0x00, 0],
  ['SECRET in a session that is not resumable', 'protocol-error', 0x0f, 0],
  ['DATA one byte over the limit', 'protocol-error', DATA, 1, undefined, { length: 131_073 }],
  ['empty DATA', 'protocol-error', DATA, 1],
  ['SERVICES of 4 GiB', 'protocol-error', SERVICES, 0, undefined, { length: 0xffff_ffff }],
  ['DATA on an id that was never opened', 'protocol-error', DATA, 99, Buffer.from('x')],
  ['OPEN of 4,000 brackets that are closed', 'protocol-error', OPEN, 3, Buffer.from('['.repeat(2e3) + ']'.repeat(2e3))],
  ['OPEN whose service is in __proto__', 'protocol-error', OPEN, 3, Buffer.from('{"__proto__":{"service":"echo"}}')],
  ['OPEN with two services', 'protocol-error', OPEN, 3, Buffer.from('{"service":"echo","service":1e999}')],
  ['SERVICES with an escape in a name', 'protocol-error', SERVICES, 0, { services: ['\u001b[2Jssh'] }],
  ['SERVICES at the time 1e999', 'protocol-error', SERVICES, 0, Buffer.from('{"services":[],"time":1e999}')],
  ['GOAWAY whose last is 1e999', 'protocol-error', GOAWAY, 0, Buffer.from('{"code":"a","message":"","last":1e999}')],
];

/** Fills the initial credit of stream 3 and goes beyond it, ignoring any answer. */
function sendOverCredit(peer: SocketPeer): void {
  peer.sendOpen(3, 'deaf');
  for (let piece = 0; piece < 4; piece += 1) peer.sendData(3, Buffer.alloc(131_072));
}

/** Further cases, with several frames or none. */
const SEQUENCES: readonly HostileCase[] = [
  { what: 'DATA over the credit of a stream', code: 'flow-control', act: sendOverCredit },
  hostile('DATA, CREDIT, FIN and STOP on refused, reset and finished ids, which is dropped', null, async (peer) => {
    peer.sendOpen(3, 'no-such-service');
    peer.sendOpen(5);
    peer.send(RESET, 5, REASON);
    peer.sendOpen(7);
    peer.send(FIN, 7);
    await peer.seen(/^FIN 7$/);
    for (const id of [3, 5, 7]) {
      for (let turn = 0; turn < 20; turn += 1) peer.sendData(id, Buffer.alloc(65_536));
      peer.sendCredit(id, 2n ** 64n - 1n);
      peer.send(STOP, id, REASON);
      peer.send(FIN, id);
      peer.send(FIN, id);
    }
  }),
  hostile('CREDIT that shrinks, overflows, and comes again', null, async (peer) => {
    peer.sendOpen(1);
    for (const id of [0, 1]) {
      for (const total of [0n, 2n ** 64n - 1n, 1n, 2n ** 53n, 2n ** 63n, 0n]) peer.sendCredit(id, total);
    }
    peer.sendData(1, 'still there');
    await peer.seen(/^DATA 1 11$/);
  }),
  hostile('random bytes in a session', 'desync', (peer) =>
    peer.flood(() => Buffer.concat([Buffer.from([0x55]), randomBytes(65_535)]), FLOOD),
  ),
  hostile(
    'a HELLO with another nonce, and then ever new ones, while the process pauses',
    'peer-restarted',
    async (peer) => {
      let id = 0;
      const next = (): Buffer => {
        id += 1;
        return peer.hello({ nonce: id.toString(16).padStart(32, '0') });
      };
      await peer.flood(() => Buffer.concat(Array.from({ length: 100 }, next)), { ...FLOOD, ms: 200 });
    },
  ),
  hostile('GOAWAY shutdown, while nothing is open', { code: 'shutdown', isTold: false }, (peer) =>
    peer.send(GOAWAY, 0, { code: 'shutdown', message: 'bye', last: 0 }),
  ),
  hostile('half a frame, and hangs up', 'channel-closed', async (peer) => {
    peer.sendOpen(1);
    peer.write(peer.frame(DATA, 1, Buffer.alloc(65_536, 7)).subarray(0, 30_000));
    await peer.drain();
    peer.close();
  }),
];

/** The codes of `lib/errors.ts` that may be in a frame, by what they end. */
const wireCodes = (scope: ErrorScope): ErrorCode[] =>
  (Object.keys(ERROR_CODES) as ErrorCode[]).filter(
    (code) => ERROR_CODES[code].wire && ERROR_CODES[code].scope === scope,
  );

/** Codes that the peer gives as its own reasons, true or not (R-CODE-1, R-CODE-4). */
const SAID: readonly HostileCase[] = [
  ...wireCodes('session')
    .filter((code) => code !== 'shutdown')
    .map((code) =>
      hostile(`GOAWAY ${code}`, { code, isTold: false }, (peer) =>
        peer.send(GOAWAY, 0, { code, message: 'says the peer', last: 0 }),
      ),
    ),
  hostile(
    'RESETs with every code of a stream, and with an unknown one',
    { code: null, alsoLogged: wireCodes('stream') },
    async (peer) => {
      const codes = [...wireCodes('stream'), 'newer-than-you', '-'.repeat(64)];
      for (const [index, code] of codes.entries()) {
        const id = 2 * index + 1;
        peer.sendOpen(id);
        await peer.seen(new RegExp(`^ACCEPT ${id}$`));
        peer.send(RESET, id, { code, message: 'says the peer' });
      }
    },
  ),
  hostile('REFUSE with an unknown code', null, async (peer, { dial }) => {
    const socket = dial();
    const isReset = new Promise((resolve) => socket.once('close', resolve));
    const { streamId } = await peer.seen(/^OPEN \d+ out$/);
    peer.send(REFUSE, streamId, { code: 'newer-than-you', message: '' });
    await isReset;
  }),
];

export const SESSION_CASES: readonly HostileCase[] = [
  ...WRONG.map(([what, code, ...sent]) =>
    hostile(what, code, (peer) => {
      peer.sendOpen(1);
      peer.send(...sent);
    }),
  ),
  ...SEQUENCES,
  ...SAID,
];
