/** Inputs for the targets of the protocol: frames with valid checks and invalid fields, HELLOs, payloads. */
import fc from 'fast-check';
import { encodeFrame, FRAME_TYPE } from '../../../lib/codec/header.js';
import { encodeHello, type Hello, MAGIC } from '../../../lib/codec/hello.js';
import { DEFAULT_LIMITS, LIMIT_RANGES } from '../../../lib/codec/limits.js';
import { ANY_CHARACTER } from '../../helpers/searches.js';
import { repairFrames } from '../repair-checks.js';
import { KNOWN_NONCE, TAG } from '../targets/frames.js';
import { choice, decisions, joined, many, objects, sizes } from './pieces.js';

const hex32 = fc.constantFrom(KNOWN_NONCE, 'b'.repeat(32), 'c'.repeat(32));
/** A HELLO of the peer whose nonce is known. */
export const knownHello: Hello = {
  version: { min: 1, max: 1 },
  nonce: KNOWN_NONCE,
  ack: null,
  instance: 'b'.repeat(32),
  agent: '',
  name: null,
  limits: DEFAULT_LIMITS,
  integrity: 'frame',
  auth: null,
  tls: false,
  features: [],
};
const KNOWN = encodeHello(knownHello);
const OTHER = encodeHello({ ...knownHello, nonce: 'c'.repeat(32) });

// Each alone at the ends of its range, or beyond.
const edges = Object.entries(LIMIT_RANGES).flatMap(([key, [min, max]]) =>
  [min, max, min - 1, max + 1, -1, 4096.5, 1e308, null].map((value) => ({ ...DEFAULT_LIMITS, [key]: value })),
);
const limits = fc.oneof(fc.constant(DEFAULT_LIMITS), fc.constantFrom(...edges));
const text = fc.string({ unit: ANY_CHARACTER, maxLength: 20 });
const keyIds = fc.array(fc.constantFrom('0'.repeat(8), 'f00'), { maxLength: 4 });
const demand = fc.record({ method: fc.constantFrom('psk-sha256', 'psk-sha256', '', '\u001b[2J'), keys: keyIds });
const helloPayload = objects({
  version: fc.record({ min: fc.constantFrom(1, 1, 0, 2, 1.5), max: fc.constantFrom(1, 1, 2, 0, 1e300) }),
  nonce: hex32,
  ack: fc.oneof(hex32, fc.constant(null)),
  limits,
  integrity: fc.constantFrom<unknown>('frame', 'full', 'full', true, 'off'),
  instance: hex32,
  agent: text,
  name: fc.option(text),
  auth: fc.oneof({ weight: 3, arbitrary: demand }, fc.option(fc.dictionary(text, fc.jsonValue()))),
  tls: fc.boolean(),
  features: fc.array(text, { maxLength: 5 }),
});
const reason = { code: fc.constantFrom('protocol-error', 'connect-refused', 'X', ''), message: text };
const service = fc.oneof(fc.constantFrom('ssh', 'a'.repeat(64), 'a'.repeat(65), '', '*'), text);
const lists = objects({ services: fc.array(service, { maxLength: 100 }), more: fc.boolean() });

const open = objects({ service, from: fc.option(text) });
const goaway = objects({ ...reason, last: fc.nat(2 ** 32 - 1) });
const eightBytes = fc.uint8Array({ minLength: 8, maxLength: 8 }).map((bytes) => Buffer.from(bytes));

/** A payload that fits a frame, or nearly. */
const payload = fc.oneof(
  ...[open, objects(reason), goaway, lists, eightBytes],
  fc.uint8Array({ maxLength: 60 }).map((bytes) => Buffer.from(bytes)),
  // A frame cut by a restart: it ends with a flush.
  fc.uint8Array({ maxLength: 20 }).map((bytes) => Buffer.concat([bytes, Buffer.alloc(16)])),
);

const severalLists = many(joined(lists, fc.constant(Buffer.from('\n'))), 4);
/** More services than a peer may have, in several lists of one set. */
const tooMany = Array.from({ length: 42 }, (_, list) => {
  const services = Array.from({ length: 100 }, (_, index) => `${list}.${index}`);
  return `${JSON.stringify({ services, more: list < 41 })}\n`;
}).join('');

/** Payloads in the order of the choice that precedes them. */
const chosen = [
  open,
  objects(reason),
  lists,
  goaway,
  eightBytes,
  fc.oneof({ weight: 20, arbitrary: severalLists }, { weight: 1, arbitrary: fc.constant(Buffer.from(tooMany)) }),
  helloPayload,
];

/** A payload after its choice. */
export const payloadInputs = fc.oneof(
  ...chosen.map((arbitrary, index) => joined(fc.constant(Buffer.from([index])), arbitrary)),
  joined(choice(chosen.length - 1), payload),
);

const helloFrame = (bytes: Buffer): Buffer => Buffer.concat([MAGIC, encodeFrame(1, 0, bytes, 0)]);

const TYPES = [1, 2, 3, 4, 5, 6, 7, 7, 7, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 0x7f, 0x80, 0xfe];

type Piece = Buffer | { readonly type: number; readonly id: number; readonly payload: Buffer; readonly length: number };

const frame = fc.record({
  type: fc.constantFrom(...TYPES),
  id: fc.oneof(fc.constantFrom(0, 1, 1, 1, 2, 2 ** 32 - 1)),
  payload,
  // The payload's length in the header, mostly correct.
  length: fc.oneof(
    { weight: 12, arbitrary: fc.constant(0) },
    { weight: 1, arbitrary: fc.constantFrom(-1, 1, 4096, 4097, 131_072, 131_073, 2 ** 31, 2 ** 32 - 1) },
  ),
});
const pieces: fc.Arbitrary<Piece[]> = fc.array(
  fc.oneof(
    { weight: 12, arbitrary: frame },
    { weight: 2, arbitrary: fc.constant(KNOWN) },
    {
      weight: 1,
      arbitrary: fc.constantFrom(OTHER, MAGIC, KNOWN.subarray(0, 100), Buffer.alloc(5), Buffer.from([0xff])),
    },
    { weight: 1, arbitrary: helloPayload.map(helloFrame) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)) },
  ),
  { maxLength: 10 },
);

/** DATA has trailers made from `tag`; none if it is null. */
function encodePieces(list: readonly Piece[], tag: number | null): Buffer {
  let sequence = 0;
  const all = list.map((piece) => {
    if (Buffer.isBuffer(piece)) return piece;
    sequence += 1;
    const { type, id, payload: bytes, length } = piece;
    const isTrailed = tag !== null && type === FRAME_TYPE.DATA;
    const encoded = Buffer.concat([encodeFrame(type, id, bytes, sequence), Buffer.alloc(isTrailed ? 4 : 0)]);
    if (isTrailed) encoded.writeUInt32BE((tag ^ sequence) >>> 0, encoded.length - 4);
    if (length === 0) return encoded;
    // Alone it would be the first frame; the reader counts on.
    encoded.writeUInt32BE(length < 0 ? Math.max(0, bytes.length - 1) : length, 8);
    return encoded;
  });
  const bytes = Buffer.concat(all);
  // An incorrect length has a valid check.
  if (list.some((piece) => !Buffer.isBuffer(piece) && piece.length !== 0)) repairFrames(bytes, false, tag);
  return bytes;
}

/** Frames of an established session; the lowest bit of the flags selects the integrity level. */
export const frameInputs = fc.oneof(
  ...[TAG, null].map((tag) =>
    joined(
      fc.nat(15).map((flags) => Buffer.from([2 * flags + (tag === null ? 1 : 0)])),
      sizes,
      pieces.map((list) => encodePieces(list, tag)),
    ),
  ),
);

const NOISE = [MAGIC, MAGIC.subarray(0, 7), KNOWN, OTHER, OTHER.subarray(0, 40), Buffer.alloc(3)];

/** Bytes that contain HELLOs. */
export const helloInputs = joined(
  decisions(1),
  many(
    fc.oneof(
      fc.constantFrom(...NOISE),
      helloPayload.map(helloFrame),
      pieces.map((list) => encodePieces(list, null)),
    ),
    6,
  ),
);

const record = fc
  .record({
    type: fc.oneof({ weight: 8, arbitrary: fc.constantFrom(20, 21, 22, 23) }, fc.constantFrom(19, 24, 1, 0x16)),
    version: fc.oneof({ weight: 20, arbitrary: fc.constant(3) }, fc.nat(255)),
    body: fc.uint8Array({ minLength: 1, maxLength: 60 }),
    // The length in the header, mostly correct.
    length: fc.oneof({ weight: 12, arbitrary: fc.constant(null) }, fc.constantFrom(0, 1, 61, 18_432, 18_433, 65_535)),
  })
  .map(({ type, version, body, length }) => {
    const header = Buffer.from([type, version, 3, 0, 0]);
    header.writeUInt16BE(length ?? body.length, 3);
    return Buffer.concat([header, body]);
  });

/** TLS records, and bytes that may come between them. */
export const recordInputs = joined(
  decisions(1),
  many(
    fc.oneof(
      { weight: 6, arbitrary: record },
      { weight: 2, arbitrary: fc.constant(KNOWN) },
      { weight: 1, arbitrary: fc.constantFrom(...NOISE) },
    ),
    6,
  ),
);
