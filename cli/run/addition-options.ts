/** The options of the command that adds a channel to a running process: all that a file can say of a channel. */
import { type GivenOptions, type Option, readOptions, type Setting, writeTable } from '../../lib/settings/setting.js';
import { ADDITION_SETTINGS, DEFAULT_SETTINGS } from '../../lib/settings/table.js';

/** One of them, as `CommandOption` says it. */
interface AdditionOption {
  readonly value?: string;
  readonly short?: string;
  readonly isRepeatable?: boolean;
  readonly describe: string;
}

/** Whether the process can be given it for all channels. */
const isForAll = (wanted: string): boolean => DEFAULT_SETTINGS.some(({ field }) => field === wanted);

/** Every option, by its long name. `--no-…` takes back what the process was given for all channels. */
export const ADDITION_OPTIONS: Readonly<Record<string, AdditionOption>> = Object.fromEntries(
  (ADDITION_SETTINGS as readonly Setting[]).flatMap(({ field, type, options = [] }) =>
    options.flatMap((option) => {
      const name = option.ofAddition?.name ?? option.name;
      const describe = `Without --${name}, also where the process was given it for all channels`;
      const isRefusable = type.none !== undefined && isForAll(field);
      return [[name, additionOption(option)], ...(isRefusable ? [[`no-${name}`, { describe }] as const] : [])];
    }),
  ),
);

function additionOption({ short, value, isRepeatable = false, help, ofAddition = {} }: Option): AdditionOption {
  return {
    ...(short === undefined ? {} : { short }),
    ...(value === undefined ? {} : { value }),
    ...(isRepeatable ? { isRepeatable } : {}),
    describe: ofAddition.help ?? help.replace(/; repeatable$| \[default: .*\]$/, ''),
  };
}

/** What the options say, as a request. Throws `bad-argument`, naming the option. */
export function readAddition(given: GivenOptions): Record<string, unknown> {
  return writeTable(ADDITION_SETTINGS, readOptions(ADDITION_SETTINGS, given, 'request'), 'request');
}
