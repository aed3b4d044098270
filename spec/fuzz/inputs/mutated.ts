/** Inputs that are nearly right: good ones with bytes flipped, cut off, repeated, put in or taken from elsewhere. */
import fc from 'fast-check';

type Mutation = (bytes: Buffer) => Buffer;

const place = fc.nat(0xffff);

// Values at which lengths and numbers change their meaning.
const EDGE_BYTES = [0, 1, 0x7f, 0x80, 0xfe, 0xff, 0x0a, 0x0d, 0x20, 0x22, 0x2c, 0x3a, 0x5c, 0x7b, 0x7d];

const flip = fc.tuple(place, fc.nat(7)).map(
  ([at, bit]): Mutation =>
    (bytes) =>
      changed(bytes, at, (byte) => byte ^ (1 << bit)),
);
const set = fc.tuple(place, fc.constantFrom(...EDGE_BYTES)).map(
  ([at, value]): Mutation =>
    (bytes) =>
      changed(bytes, at, () => value),
);
const cutEnd = place.map(
  (at): Mutation =>
    (bytes) =>
      bytes.subarray(0, at % (bytes.length + 1)),
);
const remove = fc.tuple(place, fc.integer({ min: 1, max: 40 })).map(
  ([at, count]): Mutation =>
    (bytes) => {
      const from = at % (bytes.length + 1);
      return Buffer.concat([bytes.subarray(0, from), bytes.subarray(from + count)]);
    },
);
const insert = fc.tuple(place, fc.uint8Array({ minLength: 1, maxLength: 8 })).map(
  ([at, more]): Mutation =>
    (bytes) => {
      const from = at % (bytes.length + 1);
      return Buffer.concat([bytes.subarray(0, from), more, bytes.subarray(from)]);
    },
);
const repeat = fc.tuple(place, fc.integer({ min: 1, max: 60 }), fc.integer({ min: 2, max: 5 })).map(
  ([at, count, times]): Mutation =>
    (bytes) => {
      const from = at % (bytes.length + 1);
      const piece = bytes.subarray(from, from + count);
      return Buffer.concat([
        bytes.subarray(0, from),
        ...Array.from({ length: times }, () => piece),
        bytes.subarray(from + count),
      ]);
    },
);
const splice = fc.tuple(place, place, fc.integer({ min: 1, max: 60 })).map(
  ([from, to, count]): Mutation =>
    (bytes) => {
      const start = from % (bytes.length + 1);
      const target = to % (bytes.length + 1);
      return Buffer.concat([bytes.subarray(0, target), bytes.subarray(start, start + count), bytes.subarray(target)]);
    },
);

const mutations = fc.array(fc.oneof(flip, set, cutEnd, remove, insert, repeat, splice), { maxLength: 4 });

/** Inputs of `good`, half of them with up to four mutations. */
export function mutated(good: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  const bad = fc
    .tuple(good, mutations)
    .map(([bytes, list]) => list.reduce((mangled, mutate) => mutate(mangled), bytes));
  return fc.oneof(good, bad);
}

function changed(bytes: Buffer, at: number, change: (byte: number) => number): Buffer {
  if (bytes.length === 0) return bytes;
  const copy = Buffer.from(bytes);
  const index = at % copy.length;
  copy[index] = change(copy[index] ?? 0);
  return copy;
}
