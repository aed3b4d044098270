/** Command line options from a plain object. */
import { RUN_OPTIONS } from '../../cli/run/options.js';
import { parseRunFlags } from '../../cli/run/run-options.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';
import type { GivenOptions } from '../../lib/settings/setting.js';

/** Every value of an option. A flag is true, or a number if it counts. */
export function givenIn(flags: Readonly<Record<string, unknown>>): GivenOptions {
  return (name) => {
    const value = flags[name];
    if (value === undefined || value === false) return [];
    if (value === true) return [''];
    return typeof value === 'number' ? Array<string>(value).fill('') : [value].flat().map(String);
  };
}

/** The channels of these command line words, each `--OPTION=VALUE`. Throws if one of them is wrong. */
export function channelsOf(words: readonly string[]): string[] {
  const given: Record<string, string[] | undefined> = {};
  for (const word of words) {
    const [, option = '', value = ''] = /^--([a-z-]+)=(.*)$/.exec(word) ?? [];
    if (!Object.hasOwn(RUN_OPTIONS, option)) throw new Error(`${word} is not an option with a value`);
    (given[option] ??= []).push(value);
  }
  return Object.keys(mergeConfiguration(null, parseRunFlags(givenIn(given))).channels);
}
