/** The options of the command that runs a proxy: those of the settings, and a few of their own. */
import { OPTION_GROUPS, type Option, type Setting } from '../../lib/settings/setting.js';
import { OPTION_SETTINGS } from '../../lib/settings/settings-table.js';
import type { CommandOption, CommandOptions } from '../command/command.js';

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

/** Every option, by its long name. What a value must be is checked by `parseRunFlags`. docs/cli.md is compared with them. */
export const RUN_OPTIONS: CommandOptions = Object.fromEntries(
  [...optionsOf(OPTION_SETTINGS), ...OWN_OPTIONS]
    .filter(({ isOfAdditionOnly = false }) => !isOfAdditionOnly)
    .sort((a, b) => OPTION_GROUPS.indexOf(a.group) - OPTION_GROUPS.indexOf(b.group))
    .map((option) => [option.name, commandOption(option)]),
);

function commandOption(option: Option): CommandOption {
  const { help, forms } = option;
  const said = help.replace(/ \[default.*\]$/, '');
  return {
    ...option,
    describe: forms === undefined ? help.replace(/; repeatable$/, '') : capitalize(help),
    expected: forms === undefined ? said : `${listWords(forms)}: ${said}; repeatable`,
  };
}

function capitalize(text: string): string {
  return text.replace(/^[a-z]/, (letter) => letter.toUpperCase());
}

/** `a, b or c`. */
function listWords(words: readonly string[]): string {
  return words.join(', ').replace(/, (?=[^,]*$)/, ' or ');
}

function optionsOf(rows: readonly Setting[]): Option[] {
  return rows.flatMap(({ options = [] }) => options);
}
