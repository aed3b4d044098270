/** Equality of plain values: Node's `isDeepStrictEqual`, except for keys without a value. */
import { isDeepStrictEqual } from 'node:util';

/** Whether two objects have equal values under the same keys, in any order; undefined counts as missing. */
export function haveEqualValues(one: object, other: object): boolean {
  return isDeepStrictEqual(definedValues(one), definedValues(other));
}

function definedValues(object: object): Record<string, unknown> {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined));
}
