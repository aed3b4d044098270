/** The vectors of spec/fixtures/frames.json both ways: encoded and decoded by this code. */
import { readFile } from 'node:fs/promises';
import zlib from 'node:zlib';
import test from 'ava';
import { crc32 } from '../../lib/codec/crc32.js';
import { MAX_DATAGRAM_BYTES, MessageReader } from '../../lib/codec/datagram-messages.js';
import { FrameReader } from '../../lib/codec/frame-reader.js';
import {
  crc16,
  DataCheck,
  encodeFrame,
  FRAME_TYPE,
  formatFrameType,
  type Integrity,
  nextSequence,
  writeHeader,
} from '../../lib/codec/header.js';
import { encodeHello, encodeHelloPayload, type Hello, MAGIC, readHello } from '../../lib/codec/hello.js';
import { DEFAULT_FRAME_BYTES } from '../../lib/codec/limits.js';
import { decodeTotal, writeTotal } from '../../lib/codec/payloads.js';
import { ResumeSecret } from '../../lib/session/resume/secret.js';
import { Budget } from '../../lib/util/bounds.js';

type Payload = { readonly json: object } | { readonly hex: string } | { readonly total: string };

interface Vector {
  readonly sequence: number;
  readonly type: string;
  readonly stream: number;
  readonly payload?: Payload;
  readonly hex: string;
}

interface Named {
  readonly what: string;
  readonly integrity: Integrity;
}

interface Fixture {
  /** Of the sender of the frames, and of their receiver. */
  readonly nonces: readonly [string, string];
  readonly checks: readonly { readonly text: string; readonly crc16: string; readonly crc32: string }[];
  readonly hellos: readonly { readonly what: string; readonly hello: Hello; readonly hex: string }[];
  readonly sessions: readonly (Named & { readonly frames: readonly Vector[] })[];
  readonly single: readonly (Vector & Named)[];
  readonly wrong: readonly (Omit<Named, 'integrity'> &
    Partial<Named> & { readonly hex: string; readonly code: string })[];
  /** One direction of a flow, and its messages. */
  readonly flow: { readonly hex: string; readonly messages: readonly string[] };
  /** Both SECRETs, the id, a total, and the RESUME of the second HELLO's side to the first. */
  readonly resume: Readonly<Record<'odd' | 'even' | 'id' | 'total' | 'resume', string>>;
}

const fixture = JSON.parse(await readFile('spec/fixtures/frames.json', 'utf8')) as Fixture;

const TYPES = new Map<string, number>(Object.entries(FRAME_TYPE));
const typeOf = (name: string): number => TYPES.get(name) ?? Number.parseInt(name, 16);

function payloadOf({ payload }: Vector): Buffer {
  if (payload === undefined) return Buffer.alloc(0);
  if ('json' in payload) return Buffer.from(JSON.stringify(payload.json));
  if ('hex' in payload) return Buffer.from(payload.hex, 'hex');
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(payload.total));
  return bytes;
}

const checkOf = (integrity: Integrity): DataCheck => new DataCheck(integrity, ...fixture.nonces);

const readerOf = (integrity: Integrity, handler: ConstructorParameters<typeof FrameReader>[0]['handler']) =>
  new FrameReader({ handler, check: checkOf(integrity), maxDataBytes: DEFAULT_FRAME_BYTES });

function encode(vector: Vector, integrity: Integrity): Buffer {
  const { type, stream, sequence } = vector;
  const payload = payloadOf(vector);
  const frame = encodeFrame(typeOf(type), stream, payload, sequence);
  if (type !== 'DATA' || integrity === 'full') return frame;
  writeHeader(frame, 0, FRAME_TYPE.DATA, stream, payload.length, 0, sequence);
  const trailer = Buffer.alloc(4);
  trailer.writeUInt32BE(checkOf(integrity).trailerOf(sequence));
  return Buffer.concat([frame, trailer]);
}

test('R-FRAME-2: the check values of both CRCs', (t) => {
  for (const { text, crc16: check, crc32: checksum } of fixture.checks) {
    t.is(crc16(Buffer.from(text)).toString(16), check);
    t.is(crc32(Buffer.from(text)).toString(16), checksum);
  }
});

test('the CRC-32 is that of zlib for every length, by its own table or not', (t) => {
  const bytes = Buffer.from(Array.from({ length: 600 }, (_, index) => (index * index) >> 3));
  for (let length = 0; length <= bytes.length; length += 1)
    t.is(crc32(bytes.subarray(0, length)), zlib.crc32(bytes.subarray(0, length)));
});

for (const { what, hello, hex } of fixture.hellos) {
  test(`R-OPEN-2: ${what}, both ways`, (t) => {
    const bytes = Buffer.from(hex, 'hex');
    t.is(encodeHello(hello).toString('hex'), hex);
    t.like(readHello(bytes, MAGIC.length), { hello, end: bytes.length });
  });
}

for (const { what, integrity, frames } of fixture.sessions) {
  test(`R-FRAME-1: ${what}, both ways; integrity ${integrity}`, (t) => {
    const seen: (readonly [string, number, string])[] = [];
    const note = (type: number, id: number, payload: Buffer): void => {
      seen.push([formatFrameType(type), id, payload.toString('hex')]);
    };
    const handleData = (id: number, bytes: Buffer): boolean => {
      note(FRAME_TYPE.DATA, id, bytes);
      return false;
    };
    for (const vector of frames) t.is(encode(vector, integrity).toString('hex'), vector.hex, vector.type);
    const reader = readerOf(integrity, { handleFrame: note, handleData, handleHello: () => true });
    reader.push(Buffer.concat(frames.map(({ hex }) => Buffer.from(hex, 'hex'))));
    // An unknown type is skipped.
    const known = frames.filter(({ type }) => type !== '80');
    const wanted = known.map((vector) => [vector.type, vector.stream, payloadOf(vector).toString('hex')]);
    t.deepEqual(seen, wanted);
    for (const vector of known) {
      const { type, payload } = vector;
      if (payload === undefined || !('total' in payload)) continue;
      const total = decodeTotal(FRAME_TYPE[type as 'ACK' | 'CREDIT'], payloadOf(vector));
      t.is(total, Math.min(Number(payload.total), Number.MAX_SAFE_INTEGER));
    }
  });
}

for (const vector of fixture.single) {
  test(`R-FRAME-3: ${vector.what}`, (t) => {
    t.is(encode(vector, vector.integrity).toString('hex'), vector.hex);
  });
}

test('R-FRAME-3: sequence numbers wrap from 2^32-1 to 1', (t) => {
  t.is(nextSequence(0xffff_ffff), 1);
});

test('R-DGRAM-3: the messages of a flow, in pieces of any size', (t) => {
  const { hex, messages } = fixture.flow;
  const bytes = Buffer.from(hex, 'hex');
  for (const pieceBytes of [1, 2, 3, 7, 64, bytes.length]) {
    const seen: string[] = [];
    const reader = new MessageReader({
      budget: new Budget(MAX_DATAGRAM_BYTES),
      onMessage: (message) => void seen.push(message.toString('hex')),
      onSkipped: () => t.fail(),
    });
    for (let at = 0; at < bytes.length; at += pieceBytes) reader.push(bytes.subarray(at, at + pieceBytes));
    t.deepEqual(seen, messages);
    t.false(reader.isMidMessage);
  }
});

test('R-RESUME-1 and R-RESUME-3: the id of a session, and the proof that a side has it', (t) => {
  const { odd, even, id, total, resume } = fixture.resume;
  const secret = ResumeSecret.of(Buffer.from(odd, 'hex'), Buffer.from(even, 'hex'));
  t.is(secret.id, id);
  const received = Buffer.alloc(8);
  writeTotal(received, 0, Number(total));
  const [other, own] = fixture.hellos.map(({ hello }) => encodeHelloPayload(hello)) as [Buffer, Buffer];
  t.is(Buffer.concat([received, secret.prove(own, other, received)]).toString('hex'), resume);
});

for (const { what, hex, code, integrity = 'full' } of fixture.wrong) {
  test(`R-FRAME-6: ${what} is ${code}`, (t) => {
    const handler = { handleFrame: () => undefined, handleData: () => false, handleHello: () => false };
    t.throws(() => readerOf(integrity, handler).push(Buffer.from(hex, 'hex')), { code });
  });
}
