/**
 * Options behind the address of a channel: those that every kind has (`frame=4096,integrity=full,streams=20000`), and a
 * kind's own.
 */
import { INTEGRITY_LEVELS, isIntegrity } from '../../codec/integrity.js';
import { LIMIT_RANGES } from '../../codec/limits.js';
import { VproxyError } from '../../errors.js';
import { whatThereIs } from '../../util/closest-word.js';
import { escapeText } from '../../util/escape.js';
import { formatDuration, formatUnits, parseDuration, parseUnits, SIZES } from '../../util/units.js';
import type { ChannelKind, ChannelTraits, TlsFile } from '../kind.js';

interface ChannelOption {
  /** What a value changes, or null where the value is not valid. */
  parse(value: string, traits: ChannelTraits): Partial<ChannelTraits> | null;
  /** The value in the traits of a channel. */
  format(traits: ChannelTraits): string;
  /** What a value has to be, for people. */
  readonly expected: string;
  /** Its values, where they are words. */
  readonly words?: readonly string[];
  /** Whether only `tls=cert` has it. Default false. */
  readonly isForCertificates?: boolean;
}

/** A session waits for another link for a day at most, in milliseconds. */
const MAX_RESUME_MS = 86_400_000;

/** Less would hold up what is under way on a link, and as much is more than any session has on the way. */
const LEAST_RESUME_BYTES = 2 ** 20;
const MOST_RESUME_BYTES = 2 ** 30;

const OPTIONS: ReadonlyMap<string, ChannelOption> = new Map([
  ['frame', integerOption('frameBytes', LIMIT_RANGES.frame, 'a number of bytes')],
  ['in-flight', integerOption('inFlightBytes', LIMIT_RANGES.inFlight, 'a number of bytes')],
  [
    'integrity',
    {
      parse: (value) => (isIntegrity(value) ? { integrity: value } : null),
      format: ({ integrity }) => integrity,
      expected: INTEGRITY_LEVELS.join(' or '),
      words: INTEGRITY_LEVELS,
    },
  ],
  ['streams', integerOption('streams', LIMIT_RANGES.streams, 'a number')],
  [
    'resume',
    {
      parse: (value) => {
        const ms = /^\d{1,12}$/.test(value) ? Number(value) * 1000 : parseDuration(value);
        return ms !== null && ms <= MAX_RESUME_MS ? { resumeMs: ms } : null;
      },
      format: ({ resumeMs }) => formatDuration(resumeMs),
      expected: `a time from 0 (off) to ${formatDuration(MAX_RESUME_MS)}: 60s, 5m, 1h30m`,
    },
  ],
  [
    'resume-memory',
    {
      parse: (value) => {
        const bytes = parseUnits(value, SIZES);
        return bytes !== null && bytes >= LEAST_RESUME_BYTES && bytes <= MOST_RESUME_BYTES
          ? { resumeMemoryBytes: bytes }
          : null;
      },
      format: ({ resumeMemoryBytes }) => formatUnits(resumeMemoryBytes, SIZES),
      expected: `a size from ${formatUnits(LEAST_RESUME_BYTES, SIZES)} to ${formatUnits(MOST_RESUME_BYTES, SIZES)}`,
    },
  ],
  [
    'tls',
    {
      parse: (value) => (value === 'psk' || value === 'cert' ? { tls: value } : null),
      format: ({ tls }) => tls ?? '',
      expected: 'psk or cert',
      words: ['psk', 'cert'],
    },
  ],
  ['ca', fileOption('ca', 'a path')],
  ['cert', fileOption('cert', 'a path')],
  ['key', fileOption('key', 'a path')],
  ['peer', fileOption('peer', 'a name')],
]);

/** An option that a channel may have behind its address, as a shell can offer it. */
export interface OfferedOption {
  readonly name: string;
  /** Its values, where they are words. */
  readonly words: readonly string[];
  /** Whether only `tls=cert` has it. */
  readonly isForCertificates: boolean;
}

/** Every option of a kind, its own first. */
export function listOptions(kind: ChannelKind): OfferedOption[] {
  const own = [...(kind.options?.keys() ?? [])].map((name) => ({ name, words: [], isForCertificates: false }));
  const common = [...OPTIONS].map(([name, { words = [], isForCertificates = false }]) => ({
    name,
    words,
    isForCertificates,
  }));
  return [...own, ...common];
}

/** The address and the traits of a channel with `key=value` options applied. Throws `bad-argument`. */
export function applyOptions<A>(
  kind: ChannelKind<A>,
  address: A,
  options: readonly string[],
): { readonly address: A; readonly traits: ChannelTraits } {
  const seen = new Set<string>();
  let applied = { address, traits: kind.traits };
  for (const text of options) {
    const [, name = text, value = ''] = /^([^=]*)=(.*)$/s.exec(text) ?? [];
    const own = kind.options?.get(name);
    const common = OPTIONS.get(name);
    const option = own ?? common;
    if (option === undefined) {
      const names = [...(kind.options?.keys() ?? []), ...OPTIONS.keys()];
      throw bad(`has no option "${escapeText(name)}"; ${whatThereIs(name, names)}`);
    }
    if (seen.has(name)) throw bad(`has the option ${name} twice`);
    seen.add(name);
    const ownChange = own?.parse(value, applied.address) ?? null;
    const change = common?.parse(value, applied.traits) ?? null;
    if (own !== undefined && ownChange !== null) applied = { ...applied, address: ownChange };
    else if (own === undefined && change !== null) applied = { ...applied, traits: { ...applied.traits, ...change } };
    else throw bad(`has ${name}=${escapeText(value)}, which should be ${option.expected}`);
  }
  const { traits } = applied;
  checkTls(traits);
  return seen.has('in-flight') ? applied : { ...applied, traits: { ...traits, ...inFlightFor(kind, traits) } };
}

/** Small frames are for slow lines, on which as little should be on the way: a keystroke waits behind it. */
const SMALL_FRAME_BYTES = 4096;

/** The in-flight credit where no option says it. */
function inFlightFor<A>(kind: ChannelKind<A>, { frameBytes }: ChannelTraits): Pick<ChannelTraits, 'inFlightBytes'> {
  const { inFlightBytes } = kind.traits;
  return {
    inFlightBytes: frameBytes <= SMALL_FRAME_BYTES ? Math.min(inFlightBytes, SMALL_FRAME_BYTES) : inFlightBytes,
  };
}

/** The options by which a channel differs from the plain one of its kind; `applyOptions` reads them back. */
export function formatOptions<A>(kind: ChannelKind<A>, address: A, traits: ChannelTraits): string[] {
  const own = [...(kind.options ?? [])].flatMap(([name, option]) => {
    const value = option.format(address);
    return value === null ? [] : [`${name}=${value}`];
  });
  const plain = { ...kind.traits, ...inFlightFor(kind, traits) };
  const common = [...OPTIONS].flatMap(([name, option]) => {
    const value = option.format(traits);
    return value === option.format(plain) ? [] : [`${name}=${value}`];
  });
  return [...own, ...common];
}

function integerOption(
  field: 'frameBytes' | 'inFlightBytes' | 'streams',
  [least, most]: readonly [number, number],
  what: string,
): ChannelOption {
  return {
    parse(value) {
      const number = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
      return number >= least && number <= most ? { [field]: number } : null;
    },
    format: (traits) => String(traits[field]),
    expected: `${what} from ${least} to ${most}`,
  };
}

/** An option that only `tls=cert` has. */
function fileOption(name: TlsFile, expected: string): ChannelOption {
  return {
    parse: (value, { tlsFiles }) => (value === '' ? null : { tlsFiles: { ...tlsFiles, [name]: value } }),
    format: ({ tlsFiles }) => tlsFiles[name] ?? '',
    expected,
    isForCertificates: true,
  };
}

function checkTls({ tls, tlsFiles }: ChannelTraits): void {
  const [given] = Object.keys(tlsFiles);
  if (tls !== 'cert' && given !== undefined) throw bad(`has ${given}= without tls=cert`);
  if (tls !== 'cert') return;
  const missing = (['ca', 'cert', 'key'] as const).find((name) => tlsFiles[name] === undefined);
  if (missing !== undefined) throw bad(`has tls=cert without ${missing}=`);
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
