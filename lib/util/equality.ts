/** Equality of plain values: `isDeepStrictEqual` of Node, but for keys that are there without a value. */
import { isDeepStrictEqual } from 'node:util';

/** Whether two objects have equal values under the same keys, in any order; a key whose value is undefined counts as missing. */
export function haveEqualValues(one: object, other: object): boolean {
  return isDeepStrictEqual(definedValues(one), definedValues(other));
}

function definedValues(object: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
