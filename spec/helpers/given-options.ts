/** Options as a command line has them, from a plain object. */
import type { GivenOptions } from '../../lib/settings/setting.js';

/** Every value of an option. A flag is true, or a number where it counts. */
export function givenIn(flags: Readonly<Record<string, unknown>>): GivenOptions {
  return (name) => {
    const value = flags[name];
    if (value === undefined || value === false) return [];
    if (value === true) return [''];
    return typeof value === 'number' ? Array<string>(value).fill('') : [value].flat().map(String);
  };
}
