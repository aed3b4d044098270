/**
 * The types of the values of settings: how each is read from a file, a request or an option, and written back. A
 * request is a file in JSON, with keys in the style of JSON: `dead-after` is `deadAfterS` there.
 */
import { resolve } from 'node:path';
import { badArgument, toVproxyError } from '../errors.js';
// Only a type: the control server alone loads zod, and passes it to `schema`.
import type * as zod from '../status/zod.js';
import { suggestWord } from '../util/closest-word.js';
import { escapeText } from '../util/escape.js';
import { DURATION, DURATION_FORM, formatDuration, parseDuration } from '../util/units.js';
import type { KeyPath, Problem } from './problem.js';

/** Where a setting is set; the command line has the form of a file. */
export type Form = 'file' | 'request';

export type Zod = typeof zod;

/** A type of values; `T` in a configuration. */
export interface ValueType<T> {
  /** The expected value of a file, human-readable: `true or false`. */
  readonly expected: string;
  /** The unit of a number if a configuration has a different one: the name of a request's field includes it. */
  readonly unit?: 'seconds';
  /** The value that means none, if a file can express it by `false` or an empty list. */
  readonly none?: T;
  /** Reads the value of a key; returns null after reporting an invalid one to `place`. */
  read(value: unknown, place: Place): Read<T> | null;
  /** The value for a file or a request; undefined if it is left out. `read` reads it back. */
  write(value: T, form: Form): unknown;
  /**
   * Parses the value of an option, null if the option has none; missing for a type that no option has. `form` is `request`
   * for a command to a running process. Throws `bad-argument`, without the name of the option.
   */
  parse?(text: string | null, form: Form): T;
  schema(z: Zod, form: Form): zod.ZodType;
}

/** A value that was read; not null even if the value is. */
export interface Read<T> {
  readonly value: T;
}

/** A place in a file or a request; collects the problems found there. */
export class Place {
  readonly path: KeyPath;
  readonly form: Form;
  readonly problems: Problem[];

  constructor(form: Form, problems: Problem[], path: KeyPath = []) {
    this.form = form;
    this.problems = problems;
    this.path = path;
  }

  at(...keys: KeyPath): Place {
    return new Place(this.form, this.problems, [...this.path, ...keys]);
  }

  /** Reports a problem with the value. */
  fail(message: string): null {
    this.problems.push({ where: this.path, message });
    return null;
  }

  /** Returns the result of `work`; reports what it throws as a problem. */
  attempt<T>(work: () => T): Read<T> | null {
    try {
      return { value: work() };
    } catch (error) {
      return this.fail(toVproxyError(error).message);
    }
  }
}

/** The longest time in a request, in seconds; fractions are allowed there. */
const MAX_REQUEST_SECONDS = 1_000_000;

const MAX_TEXT_LENGTH = 65_536;

/** The most values of a list in a request. */
const MAX_REQUEST_LIST = 1000;

const identity = <T>(value: T): T => value;

export const yesOrNo: ValueType<boolean> = {
  expected: 'true or false',
  none: false,
  read: (value, place) => (typeof value === 'boolean' ? { value } : place.fail('expected true or false')),
  write: identity,
  parse: () => true,
  schema: (z) => z.boolean(),
};

/** A string, taken as is. */
export function text(expected: string, maxLength: number = MAX_TEXT_LENGTH): ValueType<string> {
  return {
    expected,
    read: (value, place) => readText(value, place, expected, maxLength),
    write: identity,
    parse(value) {
      const given = value ?? '';
      if (given.length <= maxLength) return given;
      throw badArgument(`too long: ${given.length} characters (max ${maxLength})`);
    },
    schema: (z) => z.string().max(maxLength),
  };
}

/** A string that `parse` parses and `format` writes back. */
export function parsed<T>(
  expected: string,
  parse: (text: string, form: Form) => T,
  format: (value: T) => string,
): ValueType<T> {
  return {
    expected,
    read(value, place) {
      const given = readText(value, place, expected, MAX_TEXT_LENGTH);
      return given === null ? null : place.attempt(() => parse(given.value, place.form));
    },
    write: format,
    parse: (value, form) => parse(value ?? '', form),
    schema: (z) => z.string(),
  };
}

/** The path of a local file; absolute in a request, as a caller does not know the working folder of the process. */
export function path(expected: string, check: (path: string) => string = identity): ValueType<string> {
  const requireAbsolute = (given: string, form: Form): string => {
    if (form === 'file' || given.startsWith('/')) return given;
    throw badArgument(`"${escapeText(given, 80)}" is not the absolute path of a file`);
  };
  return {
    ...parsed(expected, (given, form) => requireAbsolute(check(given), form), identity),
    parse: (value, form) => (form === 'file' ? check(value ?? '') : resolve(check(value ?? ''))),
  };
}

function readText(value: unknown, place: Place, expected: string, maxLength: number): Read<string> | null {
  if (typeof value !== 'string') return place.fail(`expected ${expected}`);
  if (value === '') return place.fail(`empty; expected ${expected}`);
  return value.length > maxLength ? place.fail(`too long: ${value.length} characters (max ${maxLength})`) : { value };
}

/** One of several words; `refusal` follows a quoted value that is not one of them. */
export function oneOf<W extends string>(words: readonly W[], refusal: string): ValueType<W> {
  const expected = words.join(', ').replace(/, (?=\w+$)/, ' or ');
  const find = (value: unknown): W | undefined => words.find((word) => word === value);
  const meant = (value: unknown): string => (typeof value === 'string' ? suggestWord(value, words) : '');
  return {
    expected,
    read(value, place) {
      const found = find(value);
      return found === undefined ? place.fail(`expected ${expected}${meant(value)}`) : { value: found };
    },
    write: identity,
    parse(value) {
      const found = find(value);
      if (found !== undefined) return found;
      throw badArgument(`${quote(value ?? '')} ${refusal}${meant(value)}`);
    },
    schema: (z) => z.enum(words),
  };
}

/** A whole number of a unit. */
export const amount = (unit: string, least: number, most: number): ValueType<number> =>
  numberType(`a whole number of ${unit} from ${least} to ${most}`, /^\d{1,10}$/, least, most, true);

/** A number of a unit per second. */
export const rate = (unit: string, least: number, most: number): ValueType<number> =>
  numberType(`a number of ${unit} per second from ${least} to ${most}`, /^\d{1,13}(\.\d{1,3})?$/, least, most, false);

function numberType(expected: string, form: RegExp, least: number, most: number, isWhole: boolean): ValueType<number> {
  return {
    expected,
    read: (value, place) => (isWithin(value, least, most, isWhole) ? { value } : place.fail(`expected ${expected}`)),
    write: identity,
    parse: (value) => parseNumber(value ?? '', form, expected, least, most),
    schema: (z) => (isWhole ? z.int() : z.number()).min(least).max(most),
  };
}

/**
 * A time: a number of seconds, or a string with units such as `5m`; milliseconds in a configuration. A request has only a
 * number, which may have a fraction.
 */
export function seconds(least: number, most: number): ValueType<number> {
  return timeOf('seconds', least, most, { toConfiguration: identity, toMs: identity });
}

/** A time where 0 means never; null in a configuration. */
export function secondsOrNever(most: number): ValueType<number | null> {
  return timeOf<number | null>('seconds (0: never)', 0, most, {
    toConfiguration: (valueMs) => (valueMs === 0 ? null : valueMs),
    toMs: (value) => value ?? 0,
  });
}

function timeOf<T>(
  unit: string,
  least: number,
  most: number,
  { toConfiguration, toMs }: { readonly toConfiguration: (ms: number) => T; readonly toMs: (value: T) => number },
): ValueType<T> {
  const range = `number of ${unit} from ${least} to ${most}`;
  const expected = `a whole ${range}, or ${DURATION_FORM}`;
  /** Milliseconds of a text with units; null for any other text, and out of range. */
  const readUnits = (text: unknown): number | null => {
    const ms = typeof text === 'string' ? parseDuration(text) : null;
    return ms !== null && ms >= least * 1000 && ms <= most * 1000 ? ms : null;
  };
  return {
    expected,
    unit: 'seconds',
    read(value, place) {
      const isRequest = place.form === 'request';
      const ms = isRequest ? null : readUnits(value);
      if (ms !== null) return { value: toConfiguration(ms) };
      if (isWithin(value, least, isRequest ? MAX_REQUEST_SECONDS : most, !isRequest)) {
        return { value: toConfiguration(value * 1000) };
      }
      return place.fail(`expected ${isRequest ? `a ${range}` : expected}`);
    },
    write(value, form) {
      const ms = toMs(value);
      return form === 'file' && ms % 1000 !== 0 ? formatDuration(ms) : ms / 1000;
    },
    parse(value, form) {
      const [pattern, wanted] =
        form === 'file' ? [/^\d{1,10}$/, expected] : [/^\d{1,10}(\.\d{1,3})?$/, `a ${range}, or ${DURATION_FORM}`];
      return toConfiguration(readUnits(value) ?? parseNumber(value ?? '', pattern, wanted, least, most) * 1000);
    },
    schema(z, form) {
      if (form === 'request') return z.number().min(least).max(MAX_REQUEST_SECONDS);
      return z.union([z.int().min(least).max(most), z.string().regex(DURATION)]);
    },
  };
}

function isWithin(value: unknown, least: number, most: number, isWhole: boolean): value is number {
  return typeof value === 'number' && value >= least && value <= most && (!isWhole || Number.isSafeInteger(value));
}

function parseNumber(value: string, form: RegExp, expected: string, least: number, most: number): number {
  const given = form.test(value) ? Number(value) : Number.NaN;
  if (given >= least && given <= most) return given;
  throw badArgument(`${quote(value)} is not ${expected}`);
}

/** A list of values. An option of this type is repeatable, with one value each time. */
export function list<T>(of: ValueType<T>, expected: string, max: number = MAX_REQUEST_LIST): ListType<T> {
  return {
    expected,
    none: [],
    of,
    read(value, place) {
      if (!Array.isArray(value)) return place.fail(`expected ${expected}`);
      const values = value.map((one: unknown, index) => of.read(one, place.at(index)));
      return values.includes(null) ? null : { value: values.flatMap((one) => (one === null ? [] : [one.value])) };
    },
    write: (values, form) => values.map((value) => of.write(value, form)),
    schema(z, form) {
      const values = z.array(of.schema(z, form));
      return form === 'request' ? values.max(max) : values;
    },
  };
}

export interface ListType<T> extends ValueType<readonly T[]> {
  readonly of: ValueType<T>;
}

/** A type whose `read` throws for invalid values instead of reporting them. */
export function understood<T>(type: {
  readonly expected: string;
  readonly none: T;
  /** The value in a file. Throws `bad-argument`. */
  readonly read: (value: unknown) => T;
  readonly write: (value: T) => unknown;
  readonly parse: (text: string | null) => T;
  readonly schema: (z: Zod, form: Form) => zod.ZodType;
}): ValueType<T> {
  return { ...type, read: (value, place) => place.attempt(() => type.read(value)) };
}

/** Whether a value is a table; a TOML date is not. */
export function isTable(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Date);
}

const quote = (value: string): string => `"${escapeText(value, 64)}"`;
