/** Any bytes, in any split, mean the same, or end with one of our own codes: never another exception. */
import test from 'ava';
import fc from 'fast-check';
import { FrameReader } from '../../lib/codec/frame-reader.js';
import { encodeFrame } from '../../lib/codec/header.js';
import { decodeHello, encodeHello, type Hello, MAGIC } from '../../lib/codec/hello.js';
import { HelloScanner } from '../../lib/codec/hello-scanner.js';
import { DEFAULT_LIMITS } from '../../lib/codec/limits.js';
import { decodeGoaway, decodeOpen, decodeReasonPayload, decodeServices } from '../../lib/codec/payloads.js';
import { VproxyError } from '../../lib/errors.js';

const HELLO: Hello = {
  version: { min: 1, max: 1 },
  nonce: 'a'.repeat(32),
  ack: null,
  instance: 'b'.repeat(32),
  agent: '',
  name: null,
  limits: DEFAULT_LIMITS,
  integrity: true,
  auth: null,
  tls: false,
  features: [],
};
const KNOWN = encodeHello(HELLO);
const OTHER = encodeHello({ ...HELLO, nonce: 'c'.repeat(32) });

const payload = fc.uint8Array({ maxLength: 60 });
const piece = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      type: fc.constantFrom(3, 4, 5, 7, 7, 7, 8, 9, 11, 12, 14, 0x80, 0xfe),
      id: fc.nat(3),
      payload,
    }),
  },
  { weight: 2, arbitrary: fc.constant(KNOWN) },
  { weight: 1, arbitrary: fc.constantFrom(OTHER, MAGIC, KNOWN.subarray(0, 100), Buffer.alloc(5), Buffer.from([0xff])) },
  { weight: 1, arbitrary: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)) },
);
const cuts = fc.array(fc.integer({ min: 1, max: 70 }), { minLength: 1, maxLength: 60 });

function bytesOf(
  pieces: readonly (Buffer | { type: number; id: number; payload: Uint8Array })[],
  isMangled: boolean,
): Buffer {
  let sequence = 0;
  const all = pieces.map((item) => {
    if (Buffer.isBuffer(item)) return item;
    sequence += 1;
    return encodeFrame(item.type, item.id, item.payload, sequence, true);
  });
  const bytes = Buffer.concat(all);
  if (isMangled && bytes.length > 0) bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 0x20;
  return bytes;
}

/** Cuts bytes into chunks of the given sizes, again and again. */
function split(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] as number;
    chunks.push(Buffer.from(bytes.subarray(at, at + size)));
    at += size;
  }
  return chunks;
}

/** What a reader makes of chunks: its calls, how it ended, and the bytes that are left for the next opening. */
function read(chunks: readonly Buffer[], integrity: boolean): unknown {
  const calls: string[] = [];
  let data = '';
  const note = (text: string): void => {
    if (data !== '') calls.push(data);
    data = '';
    calls.push(text);
  };
  const reader = new FrameReader({
    handler: {
      handleFrame: (type, id, bytes) => {
        note(`${type} ${id} ${bytes.toString('hex')}`);
        // A handler that finds something wrong, and one that ends the session.
        if (type === 5) throw new VproxyError('protocol-error', 'ACCEPT');
        if (type === 14) reader.stop();
      },
      handleData: (id, bytes) => {
        // Where integrity is not in force the pieces of a payload may be any.
        if (!data.startsWith(`7 ${id} `)) data = `7 ${id} `;
        data += bytes.toString('hex');
        return false;
      },
      handleHello: ({ nonce }) => nonce === HELLO.nonce,
    },
    integrity,
    maxDataBytes: 4096,
  });
  for (const [index, chunk] of chunks.entries()) {
    const rest = (): string => Buffer.concat([reader.takeRest(), ...chunks.slice(index + 1)]).toString('hex');
    try {
      reader.push(chunk);
      if (calls.at(-1)?.startsWith('14 ') === true) return [calls, 'stopped', rest()];
    } catch (error) {
      if (!(error instanceof VproxyError)) throw error;
      note(error.code);
      return [calls, error.message, rest()];
    }
  }
  return [calls, data, reader.isMidFrame, reader.sequence];
}

test('frames: every split gives the same calls, the same code, and the same rest', (t) => {
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 12 }),
      cuts,
      fc.boolean(),
      fc.boolean(),
      (pieces, sizes, integrity, isMangled) => {
        const bytes = bytesOf(pieces, isMangled);
        const whole = read([Buffer.from(bytes)], integrity);
        t.deepEqual(read(split(bytes, sizes), integrity), whole);
        t.deepEqual(read(split(bytes, [1]), integrity), whole);
      },
    ),
    { numRuns: 1500 },
  );
});

test('R-OPEN-3: HELLOs are found alike in every split of any bytes', (t) => {
  const scan = (chunks: readonly Buffer[]): unknown => {
    const scanner = new HelloScanner();
    const nonces: string[] = [];
    for (const chunk of chunks) {
      let bytes = chunk;
      for (let found = scanner.scan(bytes); found !== null; found = scanner.scan(bytes)) {
        nonces.push(found.hello.nonce);
        bytes = found.rest;
      }
    }
    return nonces;
  };
  const noise = fc.oneof(piece, fc.constant(MAGIC), fc.constant(OTHER), fc.constant(OTHER.subarray(0, 40)));
  fc.assert(
    fc.property(fc.array(noise, { maxLength: 12 }), cuts, (pieces, sizes) => {
      const bytes = bytesOf(pieces, false);
      t.deepEqual(scan(split(bytes, sizes)), scan([bytes]));
    }),
    { numRuns: 1000 },
  );
});

test('R-FRAME-7: any payload is decoded or is a protocol error', (t) => {
  const decoders = [
    decodeHello,
    decodeOpen,
    decodeServices,
    decodeGoaway,
    (bytes: Uint8Array) => decodeReasonPayload(bytes, 'RESET'),
  ];
  const any = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc.json().map((text) => Buffer.from(text)),
    fc
      .record({ service: fc.anything(), code: fc.anything(), services: fc.anything(), last: fc.anything() })
      .map((value) => {
        const isPlain = (_key: string, inner: unknown) => (typeof inner === 'bigint' ? inner.toString() : inner);
        return Buffer.from(JSON.stringify(value, isPlain));
      }),
  );
  fc.assert(
    fc.property(any, fc.constantFrom(...decoders), (bytes, decode) => {
      try {
        decode(bytes);
      } catch (error) {
        if (!(error instanceof VproxyError) || error.code !== 'protocol-error') throw error;
      }
    }),
    { numRuns: 2000 },
  );
  t.pass();
});
