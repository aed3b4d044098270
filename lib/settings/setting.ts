/** A row of the tables of settings, and what is derived from rows: reading, writing, and the options of commands. */

import type { ChannelTraits } from '../channel/kind.js';
import { badArgument, naming, type VproxyError } from '../errors.js';
import type { ADOPTED_OPTIONS, ChannelOptions } from '../proxy/channel/channel-options.js';
import type * as zod from '../status/zod.js';
import { suggestOrList } from '../util/closest-word.js';
import { NO_VALUE } from '../util/option-value.js';
import { type Form, isTable, type ListType, type Place, type ValueType, type Zod } from './value-type.js';

/** A row. Lists of keys have the order of the table. */
export interface Setting<T = unknown> {
  /** Its key in a file. */
  readonly key: string;
  /** Its name in the options of a channel or of the process. */
  readonly field: string;
  readonly type: ValueType<T>;
  /** The default. Missing: there is no default. */
  readonly fallback?: T;
  /** The default if it depends on the kind of the channel. */
  fallbackOf?(traits: ChannelTraits): T;
  /** Whether a file or a request without it is wrong. Default false. */
  readonly isRequired?: boolean;
  /** Whether its value is a table, which is read after its sibling keys. Default false. */
  readonly isNested?: boolean;
  /** The option that sets it, or several; see {@link listOptions}. Default: none, only files and requests set it. */
  readonly options?: RowOption | readonly RowOption[];
  /** The environment variable that sets it, for containers. Default: none. */
  readonly variable?: Variable;
  /** Derives the value from the options, if it is more than the value of a single one. Throws `bad-argument`. */
  fromOptions?(given: GivenOptions, form: Form): T | undefined;
  /** Its meaning, for the descriptions of requests and of files. */
  readonly about: string;
  /** Merges the value for all channels with a channel's own. Default: its own wins. */
  merge?(all: T, own: T): T;
  /** The effect of a reload that changes it. */
  readonly reload: Reload;
}

type Variable = `VPROXY_${string}`;

export type Environment = Readonly<Record<string, string | undefined>>;

/** `now`: takes effect at once. `channel`: restarts the channel. `start`: takes effect at the next start. */
export type Reload = 'now' | 'channel' | 'start';

/** A row for values that go into the option `O` of a channel: its `reload` matches what `Proxy.apply` does with it. */
export type SettingWithin<O extends keyof ChannelOptions, T> = Setting<T> & {
  readonly reload: O extends (typeof ADOPTED_OPTIONS)[number] ? 'now' : 'channel';
};

/** The row of one of the options `O`. */
export type ChannelSetting<O extends keyof ChannelOptions = keyof ChannelOptions> = {
  [K in O]-?: SettingWithin<K, Exclude<ChannelOptions[K], undefined>> & { readonly field: K };
}[O];

export interface Option {
  /** Its long name. */
  readonly name: string;
  /** Its letter. */
  readonly short?: string;
  /** The placeholder of its value; in brackets if it is optional. Missing: it is a flag. */
  readonly value?: string;
  /** Whether it may be repeated. Default false. */
  readonly isRepeatable?: boolean;
  /** Its heading in the help. */
  readonly group: OptionGroup;
  readonly help: string;
  /** Its default, as the help shows it. Default: none is shown. */
  readonly byDefault?: string;
  /** The forms of its value. Default: none are listed. */
  readonly forms?: readonly string[];
  /** A different name or help for adding a channel to a running process. */
  readonly ofAddition?: { readonly name?: string; readonly help?: string };
  /** Whether only adding a channel takes it. Default false. */
  readonly isOfAdditionOnly?: boolean;
}

/** An option in a row. Without a name it has the key of the row. */
type RowOption = Omit<Option, 'name'> & Partial<Pick<Option, 'name'>>;

export function listOptions({ key, options = [] }: Pick<Setting, 'key' | 'options'>): Option[] {
  return [options].flat().map((option) => ({ name: key, ...option }));
}

/** The headings of the help, in order. */
export const OPTION_GROUPS = [
  'Channel:',
  'Forwards:',
  'Services:',
  'Storage:',
  'Configuration:',
  'Control:',
  'Log:',
] as const;

type OptionGroup = (typeof OPTION_GROUPS)[number];

/** Returns every value of an option that was given; a flag has an empty one each time. */
export type GivenOptions = (name: string) => readonly string[];

/** The values of rows, by field. Unset ones are missing. */
export type SettingsOf<R extends readonly Setting[]> = {
  readonly [S in R[number] as S['field']]?: ValueOf<S>;
};

/** The same, with defaults filled in. */
type CompleteSettings<R extends readonly Setting[]> = SettingsOf<R> & {
  readonly [S in Extract<R[number], { readonly fallback: unknown }> as S['field']]: ValueOf<S>;
};

type ValueOf<S extends Setting> = S['type'] extends ValueType<infer T> ? T : never;

// ---- files and requests ---------------------------------------------------------------------------------------------

/** The key of a setting: `dead-after` in a file, `deadAfterS` in a request. */
export function keyIn(form: Form, { key, type }: Setting): string {
  if (form === 'file') return key;
  const camel = key.replace(/-([a-z])/g, (_hyphen, letter: string) => letter.toUpperCase());
  return type.unit === 'seconds' ? `${camel}S` : camel;
}

/**
 * Reads a table. Invalid values and unknown keys are reported to `place` and missing in the result. Nested tables are
 * left out: see `readNested`.
 */
export function readTable<R extends readonly Setting[]>(rows: R, value: unknown, place: Place): SettingsOf<R> {
  const said = readRows(rows, false, value, place);
  const known = rows.map((row) => keyIn(place.form, row));
  for (const key of Object.keys(isTable(value) ? value : {})) {
    if (known.includes(key)) continue;
    const hint = Object.hasOwn(REPLACED, key) ? REPLACED[key] : suggestOrList(key, known);
    place.at(key).fail(`unknown key; ${hint}`);
  }
  return said;
}

/** Reads those keys of a table that are tables themselves. */
export function readNested<R extends readonly Setting[]>(rows: R, value: unknown, place: Place): SettingsOf<R> {
  return readRows(rows, true, value, place);
}

function readRows<R extends readonly Setting[]>(rows: R, nested: boolean, value: unknown, place: Place): SettingsOf<R> {
  const given = isTable(value) ? value : {};
  return byField(rows, (row) => {
    const key = keyIn(place.form, row);
    if ((row.isNested ?? false) !== nested) return undefined;
    if (Object.hasOwn(given, key)) return row.type.read(given[key], place.at(key))?.value;
    if (row.isRequired === true) place.at(key).fail(`missing; expected ${row.type.expected}`);
    return undefined;
  });
}

const PORTS_BEHIND_PATH = 'write the services of ports behind the path, "*:vsock-mux:/path,22=ssh"';

/** What replaced a key or an option of earlier versions. */
export const REPLACED: Readonly<Record<string, string>> = {
  'vsock-ports': PORTS_BEHIND_PATH,
  vsockPorts: PORTS_BEHIND_PATH,
  '--vsock-port': PORTS_BEHIND_PATH,
};

/** Writes the values of rows as a table for a file or a request; `readTable` reads it back. */
export function writeTable(rows: readonly Setting[], values: object, form: Form): Record<string, unknown> {
  const given = values as Said;
  return Object.fromEntries(
    rows.flatMap((row) => {
      const value = given[row.field];
      const written = value === undefined ? undefined : row.type.write(value, form);
      return written === undefined ? [] : [[keyIn(form, row), written]];
    }),
  );
}

/** The schema of a request or a file with these settings; that of a file has their defaults. */
export function tableSchema(z: Zod, rows: readonly Setting[], form: Form): zod.ZodObject {
  return z.strictObject(
    Object.fromEntries(
      rows.map((row) => {
        const { about: description, fallback, type } = row;
        const schema = type.schema(z, form);
        const written = form === 'request' || fallback === undefined ? undefined : type.write(fallback, form);
        const meta = { description, ...(written === undefined ? {} : { default: written }) };
        return [keyIn(form, row), (row.isRequired === true ? schema : schema.optional()).meta(meta)];
      }),
    ),
  );
}

/** Those of `values` that belong to these rows. */
export function pickSettings<R extends readonly Setting[]>(rows: R, values: object): SettingsOf<R> {
  const given = values as Said;
  return byField(rows, ({ field }) => given[field]);
}

/** Merges the values for all channels with a channel's own, which win. */
export function mergeSettings<R extends readonly Setting[]>(
  rows: R,
  all: object = {},
  own: object = {},
): SettingsOf<R> {
  const [outer, inner] = [all, own] as [Said, Said];
  return byField(rows, (row) => {
    const [theirs, its] = [outer[row.field], inner[row.field]];
    if (its === undefined) return theirs;
    return theirs === undefined || row.merge === undefined ? its : row.merge(theirs, its);
  });
}

/** Fills in the defaults of a channel with these traits. */
export function completeSettings<R extends readonly Setting[]>(
  rows: R,
  values: object,
  traits: ChannelTraits | null = null,
): CompleteSettings<R> {
  const given = values as Said;
  return byField(rows, (row) => {
    if (given[row.field] !== undefined) return given[row.field];
    return traits === null || row.fallbackOf === undefined ? row.fallback : row.fallbackOf(traits);
  }) as CompleteSettings<R>;
}

type Said = Readonly<Record<string, unknown>>;

/** The results of `valueOf` by field, without undefined ones. */
function byField<R extends readonly Setting[]>(rows: R, valueOf: (row: Setting) => unknown): SettingsOf<R> {
  const entries = rows.map((row) => [row.field, valueOf(row)] as const);
  return Object.fromEntries(entries.filter(([, value]) => value !== undefined)) as SettingsOf<R>;
}

// ---- options --------------------------------------------------------------------------------------------------------

/** Reads the values of rows from options. Throws `bad-argument`, naming the option. */
export function readOptions<R extends readonly Setting[]>(rows: R, given: GivenOptions, form: Form): SettingsOf<R> {
  return byField(rows, (row) => readSetting(row, given, form));
}

function readSetting(row: Setting, given: GivenOptions, form: Form): unknown {
  if (row.fromOptions !== undefined) return row.fromOptions(given, form);
  const [option] = listOptions(row);
  if (option === undefined) return undefined;
  const name = (form === 'request' ? option.ofAddition?.name : undefined) ?? option.name;
  const isRefused = form === 'request' && given(`no-${name}`).length > 0;
  const { type } = row;
  const value = readOption(type, option, name, given, form);
  if (!isRefused) return value;
  if (value !== undefined) throw notAllowedWith(`--no-${name}`, `--${name}`);
  return type.none;
}

function readOption(type: ValueType<unknown>, option: Option, name: string, given: GivenOptions, form: Form): unknown {
  const texts = given(name);
  if (texts.length === 0) return undefined;
  if (option.value === undefined) return type.parse?.(null, form);
  const shown = `--${name}`;
  return parseValues(
    type,
    texts.map((text) => requireValue(text, shown)),
    shown,
    form,
  );
}

/** Reads the values of rows from variables; an empty one counts as unset. Throws `bad-argument`, naming the variable. */
export function readVariables<R extends readonly Setting[]>(rows: R, environment: Environment): SettingsOf<R> {
  return byField(rows, ({ variable, type }) => {
    const text = variable === undefined ? undefined : environment[variable];
    return variable === undefined || !text ? undefined : parseValues(type, [text], variable, 'file');
  });
}

/** Parses texts: any number of them for a list, one for any other type. Throws `bad-argument`, naming `shown`. */
export function parseValues(type: ValueType<unknown>, texts: readonly string[], shown: string, form: Form): unknown {
  const parse = (of: ValueType<unknown>, text: string): unknown =>
    naming(shown, () => of.parse?.(text === NO_VALUE ? null : text, form));
  if (isListType(type)) return texts.map((text) => parse(type.of, text));
  const [text, ...others] = texts;
  if (others.length > 0) throw badArgument(`${shown}: given ${texts.length} times (max 1)`);
  return parse(type, text ?? '');
}

const isListType = (type: ValueType<unknown>): type is ListType<unknown> => 'of' in type;

/** The value of an option that may be given once; undefined if it is not given. Throws `bad-argument`. */
export function onlyValue(name: string, given: GivenOptions): string | undefined {
  const [value, ...others] = given(name);
  if (others.length > 0) throw badArgument(`--${name}: given ${others.length + 1} times (max 1)`);
  return value === undefined ? undefined : requireValue(value, `--${name}`);
}

/** Returns the value. Throws `bad-argument` if it is empty. */
export function requireValue(value: string, shown: string): string {
  if (value === '') throw badArgument(`${shown}: empty value`);
  return value;
}

export const notAllowedWith = (shown: string, other: string): VproxyError =>
  badArgument(`${shown}: not allowed with ${other}`);
