/** The parts of inputs: the deciding bytes before them, JSON that is nearly right, and texts of tokens. */
import fc from 'fast-check';

/** The flags and sizes that precede the bytes of a target; flags up to `maxFlags`. */
export function decisions(maxFlags: number): fc.Arbitrary<Buffer> {
  return fc
    .tuple(fc.nat(maxFlags), fc.array(fc.nat(80), { minLength: 1, maxLength: 7 }))
    .map(([flags, sizes]) => Buffer.from([flags, sizes.length - 1, ...sizes]));
}

/** Inputs that begin with `head` and go on with `tail`. */
export function after(head: fc.Arbitrary<Buffer>, tail: fc.Arbitrary<Buffer>): fc.Arbitrary<Buffer> {
  return fc.tuple(head, tail).map((parts) => Buffer.concat(parts));
}

/** One byte from 0 to `max`. */
export function choice(max: number): fc.Arbitrary<Buffer> {
  return fc.nat(max).map((value) => Buffer.from([value]));
}

/** Some of these tokens, and of other texts, one after the other. */
export function tokens(known: readonly string[], maxLength = 8): fc.Arbitrary<Buffer> {
  const other = fc.oneof(fc.string({ unit: 'binary', maxLength: 4 }), fc.nat(2 ** 33).map(String));
  const token = fc.oneof({ weight: 5, arbitrary: fc.constantFrom(...known) }, { weight: 1, arbitrary: other });
  return fc.array(token, { maxLength }).map((list) => Buffer.from(list.join('')));
}

/** Objects of JSON with the given fields: each as it should be, or left out, or anything. */
export function objects(fields: Readonly<Record<string, fc.Arbitrary<unknown>>>): fc.Arbitrary<Buffer> {
  const model = Object.fromEntries(
    Object.entries(fields).map(([key, good]) => [
      key,
      fc.oneof(
        { weight: 30, arbitrary: good },
        { weight: 1, arbitrary: fc.constantFrom(null, -0, [], {}, '') },
        { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
      ),
    ]),
  );
  const object = fc.oneof(
    { weight: 6, arbitrary: fc.record(model) },
    { weight: 2, arbitrary: fc.record(model, { requiredKeys: [] }) },
    { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 2 }) },
  );
  return object.map((value) => Buffer.from(JSON.stringify(value)));
}
