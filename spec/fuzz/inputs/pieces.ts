/** Parts of inputs: deciding bytes, nearly valid JSON, texts of tokens, and mutations of valid inputs. */
import fc from 'fast-check';
import { ANY_CHARACTER } from '../../helpers/searches.js';

/** The sizes that precede the bytes of a target. */
export const sizes = fc
  .array(fc.nat(80), { minLength: 1, maxLength: 7 })
  .map((list) => Buffer.from([list.length - 1, ...list]));

/** The flags, up to `maxFlags`, and sizes that precede the bytes of a target. */
export const decisions = (maxFlags: number): fc.Arbitrary<Buffer> => joined(choice(maxFlags), sizes);

/** Inputs of these parts in order. */
export const joined = (...parts: readonly fc.Arbitrary<Buffer>[]): fc.Arbitrary<Buffer> =>
  fc.tuple(...parts).map((list) => Buffer.concat(list));

/** Up to N of a part. */
export const many = (part: fc.Arbitrary<Buffer>, maxLength: number): fc.Arbitrary<Buffer> =>
  fc.array(part, { maxLength }).map((list) => Buffer.concat(list));

/** One byte from 0 to `max`. */
export const choice = (max: number): fc.Arbitrary<Buffer> => fc.nat(max).map((value) => Buffer.from([value]));

export const one = (texts: readonly string[], encoding: BufferEncoding = 'utf8'): fc.Arbitrary<Buffer> =>
  fc.constantFrom(...texts).map((text) => Buffer.from(text, encoding));

/** A sequence of these tokens and other texts. */
export function tokens(known: readonly string[], maxLength = 8): fc.Arbitrary<Buffer> {
  const other = fc.oneof(fc.string({ unit: ANY_CHARACTER, maxLength: 4 }), fc.nat(2 ** 33).map(String));
  const token = fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...known) }, { weight: 1, arbitrary: other });
  return fc.array(token, { maxLength }).map((list) => Buffer.from(list.join('')));
}

/** JSON objects with the given fields: each valid, omitted, or anything. */
export function objects(fields: Readonly<Record<string, fc.Arbitrary<unknown>>>): fc.Arbitrary<Buffer> {
  const anything = { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) };
  const empty = { weight: 1, arbitrary: fc.constantFrom(null, -0, [], {}, '') };
  const model = Object.fromEntries(
    Object.entries(fields).map(([key, arbitrary]) => [key, fc.oneof({ weight: 30, arbitrary }, empty, anything)]),
  );
  const object = fc.oneof(
    { weight: 6, arbitrary: fc.record(model) },
    { weight: 2, arbitrary: fc.record(model, { requiredKeys: [] }) },
    anything,
  );
  return object.map((value) => Buffer.from(JSON.stringify(value)));
}

// Values at which lengths and numbers change their meaning.
const EDGE_BYTES = [0, 1, 0x7f, 0x80, 0xfe, 0xff, 0x0a, 0x0d, 0x20, 0x22, 0x2c, 0x3a, 0x5c, 0x7b, 0x7d];

/** Replaces `count` bytes at an offset. */
const replace = (bytes: Buffer, at: number, count: number, ...others: readonly Uint8Array[]): Buffer =>
  Buffer.concat([bytes.subarray(0, at), ...others, bytes.subarray(at + count)]);

interface Choice {
  /** Two offsets in the bytes, or after them. */
  readonly at: number;
  readonly from: number;
  readonly count: number;
  readonly times: number;
  readonly edge: number;
  readonly more: Uint8Array;
}

const MUTATIONS: readonly ((bytes: Buffer, chosen: Choice) => Buffer)[] = [
  (bytes, { at, count }) =>
    replace(bytes, at, 1, ...[...bytes.subarray(at, at + 1)].map((byte) => flipped(byte, count))),
  (bytes, { at, edge }) => replace(bytes, at, 1, Buffer.from([edge])),
  (bytes, { at }) => bytes.subarray(0, at),
  (bytes, { at, count }) => replace(bytes, at, count),
  (bytes, { at, more }) => replace(bytes, at, 0, more),
  (bytes, { at, count, times }) =>
    replace(bytes, at, 0, ...new Array<Buffer>(times).fill(bytes.subarray(at, at + count))),
  (bytes, { at, from, count }) => replace(bytes, at, 0, bytes.subarray(from, from + count)),
];

const flipped = (byte: number, bit: number): Buffer => Buffer.from([byte ^ (1 << (bit % 8))]);

const mutation = fc
  .record({
    mutate: fc.constantFrom(...MUTATIONS),
    at: fc.nat(0xffff),
    from: fc.nat(0xffff),
    count: fc.integer({ min: 1, max: 60 }),
    times: fc.integer({ min: 1, max: 4 }),
    edge: fc.constantFrom(...EDGE_BYTES),
    more: fc.uint8Array({ minLength: 1, maxLength: 8 }),
  })
  .map(({ mutate, at, from, ...chosen }) => (bytes: Buffer): Buffer => {
    const places = bytes.length + 1;
    return mutate(bytes, { ...chosen, at: at % places, from: from % places });
  });

/** Inputs of `good`, half of them with up to four mutations. */
export function mutated(good: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const bad = fc
    .tuple(good, fc.array(mutation, { maxLength: 4 }))
    .map(([bytes, list]) => list.reduce((mangled, mutate) => mutate(mangled), bytes));
  return fc.oneof(good, bad);
}
