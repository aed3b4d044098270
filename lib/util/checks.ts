/** Checks of the options of a program: JavaScript passes any value, and a value of a wrong type must not permit anything. */
import { badArgument, type VproxyError } from '../errors.js';
import { suggestOrList } from './closest-word.js';
import { escapeText } from './escape.js';

/** Throws `bad-argument` if the value of an option is not what it must be. */
export type Check = (value: unknown, option: string) => void;

/** The checks of all fields of an object. */
export type ChecksOf<T> = { readonly [K in keyof Required<T>]: Check };

const bad = (option: string, what: string): VproxyError => badArgument(`${escapeText(option) || 'options'}: ${what}`);

export const must =
  (expected: string, fits: (value: unknown) => boolean): Check =>
  (value, option) => {
    if (!fits(value)) throw bad(option, `expected ${expected}`);
  };

export const TEXT = must('a string', (value) => typeof value === 'string');
export const FLAG = must('true or false', (value) => typeof value === 'boolean');
export const AMOUNT = must('a number from 0', (value) => typeof value === 'number' && value >= 0);
export const FUNCTION = must('a function', (value) => typeof value === 'function');

export const orNull =
  (check: Check): Check =>
  (value, option) => {
    if (value !== null) check(value, option);
  };

export const listOf =
  (check: Check): Check =>
  (value, option) => {
    if (!Array.isArray(value)) throw bad(option, 'expected a list');
    for (const [index, one] of value.entries()) check(one, `${option}[${index}]`);
  };

export const isObject = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

export const OBJECT = must('an object', isObject);

/** Whether all that an object holds is in its own fields: not so for a Map, and for fields of a prototype, which copies lack. */
const isPlain = (value: unknown): value is Readonly<Record<string, unknown>> => {
  if (!isObject(value) || Symbol.iterator in value) return false;
  for (const name in value) if (!Object.hasOwn(value, name)) return false;
  return true;
};

export const tableOf =
  (check: Check): Check =>
  (value, option) => {
    if (!isPlain(value)) throw bad(option, 'expected a plain object');
    for (const [name, one] of Object.entries(value)) check(one, `${option}.${name}`);
  };

/** An object with these fields and no others; an optional one may be undefined. */
export function record(
  optional: Readonly<Record<string, Check>>,
  required: Readonly<Record<string, Check>> = {},
): Check {
  const checks = new Map(Object.entries({ ...required, ...optional }));
  const names = [...checks.keys()];
  return (value, option) => {
    if (!isPlain(value)) throw bad(option, `expected { ${names.join(', ')} }`);
    for (const name of [...Object.keys(required), ...Object.keys(value)]) {
      const field = option === '' ? name : `${option}.${name}`;
      const check = checks.get(name);
      if (check === undefined) throw bad(field, `unknown; ${suggestOrList(name, names)}`);
      if (value[name] !== undefined || name in required) check(value[name], field);
    }
  };
}
