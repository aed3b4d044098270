/**
 * Options after the address of a channel: those of every kind (`frame=4096,integrity=full,streams=20000`), and a kind's own.
 */
import { INTEGRITY_LEVELS } from '../../codec/header.js';
import { LIMIT_RANGES } from '../../codec/limits.js';
import { badArgument } from '../../errors.js';
import { suggestOrList } from '../../util/closest-word.js';
import { escapeText } from '../../util/escape.js';
import { formatDuration, formatUnits, parseDuration, parseUnits, SIZES } from '../../util/units.js';
import type { ChannelKind, ChannelOption, ChannelTraits, OptionFor, TextType } from '../kind.js';

/** The longest time that a session waits for another link: a day, in milliseconds. */
const MAX_RESUME_MS = 86_400_000;

/** Less would stall the data in flight on a link; more than the maximum is never in flight. */
const LEAST_RESUME_BYTES = 2 ** 20;
const MOST_RESUME_BYTES = 2 ** 30;

const resumeTime: TextType<number> = {
  parse: (text) => within(/^\d{1,12}$/.test(text) ? Number(text) * 1000 : parseDuration(text), [0, MAX_RESUME_MS]),
  format: formatDuration,
  expected: `a time from 0 (off) to ${formatDuration(MAX_RESUME_MS)}: 60s, 5m, 1h30m`,
};

const resumeMemory: TextType<number> = {
  parse: (text) => within(parseUnits(text, SIZES), [LEAST_RESUME_BYTES, MOST_RESUME_BYTES]),
  format: (bytes) => formatUnits(bytes, SIZES),
  expected: `a size from ${formatUnits(LEAST_RESUME_BYTES, SIZES)} to ${formatUnits(MOST_RESUME_BYTES, SIZES)}`,
};

/** A word without a value means on. */
const flag: TextType<boolean> = {
  parse: (text) => (text === '' || text === 'on' ? true : text === 'off' ? false : null),
  format: (value) => (value ? '' : 'off'),
  expected: 'on or off',
  words: ['on', 'off'],
};

const anyText: TextType<string> = { parse: (text) => text || null, format: (text) => text, expected: 'a name' };
const file: TextType<string> = { ...anyText, expected: 'a path', isPath: true };

/** The options of every kind. */
const OPTIONS: ReadonlyMap<string, ChannelOption> = new Map<string, OptionFor<ChannelTraits>>([
  ['frame', { field: 'frameBytes', type: numberIn(LIMIT_RANGES.frame, 'a number of bytes') }],
  ['in-flight', { field: 'inFlightBytes', type: numberIn(LIMIT_RANGES.inFlight, 'a number of bytes') }],
  ['integrity', { field: 'integrity', type: oneOf(INTEGRITY_LEVELS) }],
  ['streams', { field: 'streams', type: numberIn(LIMIT_RANGES.streams, 'a number') }],
  ['resume', { field: 'resumeMs', type: resumeTime }],
  ['resume-memory', { field: 'resumeMemoryBytes', type: resumeMemory }],
  ['tls', { field: 'tls', type: oneOf(['psk', 'cert']) }],
  ['ca', { field: 'ca', type: file, isForCertificates: true }],
  ['cert', { field: 'cert', type: file, isForCertificates: true }],
  ['key', { field: 'key', type: file, isForCertificates: true }],
  ['peer', { field: 'peer', type: anyText, isForCertificates: true }],
]);

/** The options of kinds to which peers connect. */
const LISTENER_OPTIONS: ReadonlyMap<string, ChannelOption> = new Map<string, OptionFor<ChannelTraits>>([
  ['exclusive', { field: 'isExclusive', type: flag }],
]);

/** All options of a kind by name, its own first. */
export const optionsOf = ({ options = new Map(), mode }: ChannelKind): ReadonlyMap<string, ChannelOption> =>
  new Map([...options, ...OPTIONS, ...(mode === 'listen' ? LISTENER_OPTIONS : [])]);

/** Applies `key=value` options to the address and the traits of a channel. Throws `bad-argument`. */
export function applyOptions<A>(
  kind: ChannelKind<A>,
  address: A,
  options: readonly string[],
): { readonly address: A; readonly traits: ChannelTraits } {
  const known = optionsOf(kind);
  const seen = new Set<string>();
  const given = { own: {}, common: {} };
  for (const text of options) {
    const [, name = text, value = ''] = /^([^=]*)=(.*)$/s.exec(text) ?? [];
    const option = known.get(name);
    if (option === undefined)
      throw badArgument(`unknown option "${escapeText(name)}"; ${suggestOrList(name, [...known.keys()])}`);
    if (seen.has(name)) throw badArgument(`option ${name} given twice`);
    seen.add(name);
    const read = option.type.parse(value);
    if (read === null) throw badArgument(`${name}=${escapeText(value)}: must be ${option.type.expected}`);
    Object.assign(kind.options?.has(name) === true ? given.own : given.common, { [option.field]: read });
  }
  const traits = { ...kind.traits, ...given.common };
  checkTls(traits);
  return {
    // Kinds whose addresses are not objects have no options of their own.
    address: Object.keys(given.own).length === 0 ? address : { ...address, ...given.own },
    traits: seen.has('in-flight') ? traits : { ...traits, ...inFlightFor(kind, traits) },
  };
}

/** Small frames are for slow lines, where no more should be in flight either: a keystroke waits behind it. */
const SMALL_FRAME_BYTES = 4096;

/** The default in-flight credit. */
function inFlightFor<A>(kind: ChannelKind<A>, { frameBytes }: ChannelTraits): Pick<ChannelTraits, 'inFlightBytes'> {
  const { inFlightBytes } = kind.traits;
  return {
    inFlightBytes: frameBytes <= SMALL_FRAME_BYTES ? Math.min(inFlightBytes, SMALL_FRAME_BYTES) : inFlightBytes,
  };
}

/** The options in which a channel differs from the defaults of its kind; the inverse of `applyOptions`. */
export function formatOptions<A>(kind: ChannelKind<A>, address: A, traits: ChannelTraits): string[] {
  const plain = { ...kind.traits, ...inFlightFor(kind, traits) };
  return [...optionsOf(kind)].flatMap(([name, { field, type, fallback = fieldOf(plain, field) }]) => {
    const value = fieldOf(kind.options?.has(name) === true ? address : traits, field) ?? null;
    if (value === null || value === fallback) return [];
    const text = type.format(value);
    return [text === '' ? name : `${name}=${text}`];
  });
}

const fieldOf = (of: unknown, field: string): unknown => Reflect.get(Object.assign({}, of), field);

function checkTls(traits: ChannelTraits): void {
  const given = ([...NEEDED_FILES, 'peer'] as const).find((name) => traits[name] !== undefined);
  if (traits.tls !== 'cert' && given !== undefined) throw badArgument(`${given}= requires tls=cert`);
  const missing = NEEDED_FILES.find((name) => traits[name] === undefined);
  if (traits.tls === 'cert' && missing !== undefined) throw badArgument(`tls=cert requires ${missing}=`);
}

const NEEDED_FILES = ['ca', 'cert', 'key'] as const;

// Value types.

function numberIn([least, most]: Range, what: string): TextType<number> {
  return {
    parse: (text) => within(/^\d{1,10}$/.test(text) ? Number(text) : null, [least, most]),
    format: String,
    expected: `${what} from ${least} to ${most}`,
  };
}

function within(number: number | null, [least, most]: Range): number | null {
  return number !== null && number >= least && number <= most ? number : null;
}

function oneOf<W extends string>(words: readonly W[]): TextType<W> {
  return {
    parse: (text) => words.find((word) => word === text) ?? null,
    format: (word) => word,
    expected: words.join(' or '),
    words,
  };
}

type Range = readonly [least: number, most: number];
