/** The options of the command that runs a proxy: those of the settings, and a few of their own. */
import type { Options } from 'yargs';
import { OPTION_GROUPS, type Option, type Setting } from '../../lib/settings/setting.js';
import { OPTION_SETTINGS } from '../../lib/settings/table.js';

/** One of them: what yargs reads, and for manual and completion what `CommandOption` says of the options of other commands. */
export interface RunOption extends Options {
  readonly type: 'string' | 'boolean' | 'count';
  readonly alias?: string;
  readonly group: string;
  readonly describe: string;
  /** What its value is called; without one it is a flag. One in brackets may be left out, and stands behind `=` only. */
  readonly value?: string;
  /** Whether it may be given more than once. Default false. */
  readonly isRepeatable?: boolean;
  readonly requiresArg?: boolean;
}

/** What is no setting: where settings come from, and whether they are only shown. */
const OWN_OPTIONS: readonly Option[] = [
  {
    name: 'config',
    value: 'FILE',
    group: 'Configuration:',
    help: 'FILE with all of this, TOML or JSON; what the command line says wins',
  },
  { name: 'print-config', group: 'Configuration:', help: 'Print what would be in force, as TOML, and end' },
  { name: 'json', group: 'Configuration:', help: 'Print it as JSON' },
];

/** Every option, by its long name, as yargs wants it. What a value must be is checked by `parseRunFlags`. docs/cli.md is compared with them. */
export const RUN_OPTIONS: Readonly<Record<string, RunOption>> = Object.fromEntries(
  [...optionsOf(OPTION_SETTINGS), ...OWN_OPTIONS]
    .filter(({ isOfAdditionOnly = false }) => !isOfAdditionOnly)
    .sort((a, b) => OPTION_GROUPS.indexOf(a.group) - OPTION_GROUPS.indexOf(b.group))
    .map((option) => [option.name, runOption(option)]),
);

function runOption({ short, value, isRepeatable = false, isCounted = false, group, help }: Option): RunOption {
  return {
    ...(short === undefined ? {} : { alias: short }),
    type: value !== undefined ? 'string' : isCounted ? 'count' : 'boolean',
    ...(value === undefined ? {} : { value }),
    ...(isRepeatable ? { isRepeatable } : {}),
    ...(value === undefined || value.startsWith('[=') ? {} : { requiresArg: true }),
    group,
    describe: help,
  };
}

function optionsOf(rows: readonly Setting[]): Option[] {
  return rows.flatMap(({ options = [] }) => options);
}
