/** The options that every kind of channel has, behind its address: `frame=4096,integrity=off,in-flight=65536`. */
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import type { ChannelTraits } from './kind.js';

/** One option. */
interface ChannelOption {
  /** What a value changes, or null where the value is none. */
  parse(value: string): Partial<ChannelTraits> | null;
  /** The value in the traits of a channel. */
  format(traits: ChannelTraits): string;
  /** What a value has to be, for people. */
  readonly expected: string;
}

/** The options by name. */
const OPTIONS: ReadonlyMap<string, ChannelOption> = new Map([
  ['frame', integerOption('frameBytes', 4096, 1_048_576)],
  ['in-flight', integerOption('inFlightBytes', 1024, 2 ** 30)],
  [
    'integrity',
    {
      parse: (value) => (value === 'on' || value === 'off' ? { integrity: value === 'on' } : null),
      format: (traits) => (traits.integrity ? 'on' : 'off'),
      expected: 'on or off',
    },
  ],
]);

/** The traits of a channel with `key=value` options applied. Throws `bad-argument`. */
export function applyOptions(traits: ChannelTraits, options: readonly string[]): ChannelTraits {
  const seen = new Set<string>();
  return options.reduce((before, text) => {
    const [, name = text, value = ''] = /^([^=]*)=(.*)$/s.exec(text) ?? [];
    const option = OPTIONS.get(name);
    if (option === undefined)
      throw bad(`has no option "${escapeText(name)}"; there are: ${[...OPTIONS.keys()].join(', ')}`);
    if (seen.has(name)) throw bad(`has the option ${name} twice`);
    seen.add(name);
    const change = option.parse(value);
    if (change === null) throw bad(`has ${name}=${escapeText(value)}, which should be ${option.expected}`);
    return { ...before, ...change };
  }, traits);
}

/** The options by which `traits` differ from those of their kind; `applyOptions` reads them back. */
export function formatOptions(kindTraits: ChannelTraits, traits: ChannelTraits): string[] {
  return [...OPTIONS].flatMap(([name, option]) => {
    const value = option.format(traits);
    return value === option.format(kindTraits) ? [] : [`${name}=${value}`];
  });
}

function integerOption(field: 'frameBytes' | 'inFlightBytes', least: number, most: number): ChannelOption {
  return {
    parse(value) {
      const number = /^\d{1,10}$/.test(value) ? Number(value) : Number.NaN;
      return number >= least && number <= most ? { [field]: number } : null;
    },
    format: (traits) => String(traits[field]),
    expected: `a number of bytes from ${least} to ${most}`,
  };
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
