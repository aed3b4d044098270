/**
 * Tables by name, such as `[services.ssh]` and `[egress.internet]`: in files and requests, and as options,
 * `--rule ssh:streams=10`.
 */
import { SERVICE_NAME } from '../codec/limits.js';
import { badArgument, naming } from '../errors.js';
import { splitAtCommas } from '../util/addresses/comma-options.js';
import { suggestOrList } from '../util/closest-word.js';
import { escapeText } from '../util/escape.js';
import {
  type GivenOptions,
  parseValues,
  readTable,
  requireValue,
  type Setting,
  type SettingsOf,
  tableSchema,
  writeTable,
} from './setting.js';
import { type Form, isTable, type Place, type ValueType } from './value-type.js';

/** The keys of one sort of tables, and the words for it. */
export interface NamedTables<R extends readonly Setting[]> {
  readonly rows: R;
  /** The thing that has the name, with its article: `a service`. */
  readonly named: string;
  /** The thing that has the keys, with its article: `a rule`. */
  readonly table: string;
  /** The header of one in a file: `[services.ssh]`. */
  readonly header: string;
  /** A table in one line: `{ streams = 10 }`. */
  readonly inline: string;
  /** Its option, with an example of a value. */
  readonly option: { readonly shown: string; readonly form: string; readonly example: string };
  /** Throws `bad-argument` if the table does not fit this name. Default: every table fits. */
  readonly check?: (name: string, table: SettingsOf<R>) => void;
  /** Whether a value may contain commas: a piece without a key continues the value before it. Default false. */
  readonly hasCommas?: boolean;
  /** Its schema in the description of requests; files have no use for the id. */
  readonly schema: { readonly id: string; readonly description: string };
}

/** Tables by name, in files and requests. */
export function namedTables<R extends readonly Setting[]>(
  sort: NamedTables<R>,
): ValueType<Readonly<Record<string, SettingsOf<R>>>> {
  const { rows, named, header, schema } = sort;
  const expected = `a table for each ${named.replace(/^an? /, '')}, such as ${header}`;
  return {
    expected,
    read(value, place) {
      if (!isTable(value)) return place.fail(`expected ${expected}`);
      const tables = Object.entries(value).flatMap(([name, table]) => {
        const read = readOne(sort, name, table, place.at(name));
        return read === null ? [] : [[name, read] as const];
      });
      return { value: Object.fromEntries(tables) };
    },
    write(tables, form) {
      const written = Object.entries(tables).map(([name, table]) => [name, writeTable(rows, table, form)]);
      return written.length === 0 ? undefined : (Object.fromEntries(written) as object);
    },
    schema(z, form) {
      const table = tableSchema(z, rows, form);
      if (form === 'request') return z.record(z.string(), table.meta(schema));
      return z.record(z.string().regex(SERVICE_NAME), table.describe(schema.description));
    },
  };
}

function readOne<R extends readonly Setting[]>(
  { rows, named, inline, check }: NamedTables<R>,
  name: string,
  table: unknown,
  place: Place,
): SettingsOf<R> | null {
  if (!SERVICE_NAME.test(name)) place.fail(nameExpected(named));
  if (!isTable(table)) return place.fail(`expected a table, such as ${inline}`);
  const read = readTable(rows, table, place);
  return place.attempt(() => check?.(name, read)) === null ? null : read;
}

/**
 * Parses `--OPTION NAME:KEY=VALUE[,KEY=VALUE…]`, where a list repeats its key for each value; undefined without the
 * option. Throws `bad-argument`.
 */
export function parseNamedTables<R extends readonly Setting[]>(
  sort: NamedTables<R>,
  given: GivenOptions,
  form: Form,
): Readonly<Record<string, SettingsOf<R>>> | undefined {
  const { shown } = sort.option;
  const texts = given(shown.replace(/^--/, ''));
  if (texts.length === 0) return undefined;
  const tables = new Map<string, SettingsOf<R>>();
  for (const text of texts) {
    const [name, table] = naming(shown, () => parseOne(sort, requireValue(text, shown), form));
    if (tables.has(name)) throw badArgument(`${shown}: ${sort.named.replace(/^an? /, '')} ${name} given twice`);
    tables.set(name, table);
  }
  return Object.fromEntries(tables);
}

function parseOne<R extends readonly Setting[]>(
  { rows, named, table, option, check, hasCommas = false }: NamedTables<R>,
  text: string,
  form: Form,
): readonly [name: string, table: SettingsOf<R>] {
  const [, name, rest = ''] = /^([^:]*):(.+)$/s.exec(text) ?? [];
  const pieces = splitAtCommas(rest);
  const parts = (hasCommas ? joinValues(pieces) : pieces).map((part) => /^([^=]+)=(.*)$/s.exec(part));
  if (name === undefined || parts.includes(null)) {
    throw badArgument(`"${escapeText(text, 100)}": expected ${option.form}, such as ${option.example}`);
  }
  if (!SERVICE_NAME.test(name)) throw badArgument(nameExpected(named));
  const given = parts.map((part) => ({ key: part?.[1] ?? '', value: part?.[2] ?? '' }));
  const known = rows.map(({ key }) => key);
  const unknown = given.find(({ key }) => !known.includes(key));
  if (unknown !== undefined) {
    throw badArgument(`${table} has no key "${escapeText(unknown.key, 64)}"; ${suggestOrList(unknown.key, known)}`);
  }
  const entries = rows.flatMap(({ key, field, type }) => {
    const values = given.filter((one) => one.key === key).map(({ value }) => value);
    // An empty list is `channels=`.
    const own = 'of' in type ? values.filter((value) => value !== '') : values;
    return values.length === 0 ? [] : [[field, parseValues(type, own, key, form)]];
  });
  const read = Object.fromEntries(entries) as SettingsOf<R>;
  check?.(name, read);
  return [name, read];
}

/** Joins pieces without a key to the value before them. */
function joinValues([first = '', ...pieces]: readonly string[]): string[] {
  const parts = [first];
  for (const piece of pieces) {
    if (piece.includes('=')) parts.push(piece);
    else parts.push(`${parts.pop() ?? ''},${piece}`);
  }
  return parts;
}

/** Merges both, key by key; `own` wins. */
export function mergeNamedTables<T extends object>(
  all: Readonly<Record<string, T>>,
  own: Readonly<Record<string, T>>,
): Readonly<Record<string, T>> {
  const merged = new Map(Object.entries(all));
  for (const [name, table] of Object.entries(own)) merged.set(name, { ...merged.get(name), ...table });
  return Object.fromEntries(merged);
}

const nameExpected = (named: string): string =>
  `the name of ${named} must be 1 to 64 of a-z, 0-9, dot, underscore and hyphen, and begin with a letter or digit`;
