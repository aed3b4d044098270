/** The options of the run command: those of the settings, and a few of its own. */
import { ADDRESS } from '../../lib/settings/channel-settings.js';
import { type Environment, listOptions, OPTION_GROUPS, type Option, type Setting } from '../../lib/settings/setting.js';
import { OPTION_SETTINGS } from '../../lib/settings/settings-table.js';
import { text } from '../../lib/settings/value-type.js';
import type { CommandOption, CommandOptions } from '../command/command.js';

/** Where settings come from. */
export const CONFIG = {
  key: 'config',
  field: 'file',
  type: text('the path of a file or a folder'),
  about: 'The configuration',
  variable: 'VPROXY_CONFIG',
  options: {
    value: 'FILE',
    group: 'Configuration:',
    help: 'FILE with the configuration, TOML or JSON, or a folder of such files; the command line overrides it',
  },
  reload: 'start',
} as const satisfies Setting;

/** Options that are not settings: whether to only print them. */
const PRINT_OPTIONS: readonly Option[] = [
  { name: 'print-config', group: 'Configuration:', help: 'Print the resulting configuration as TOML, and exit' },
  { name: 'json', group: 'Configuration:', help: 'Print it as JSON' },
];

/** All options by long name. `parseRunFlags` validates the values. A spec compares docs/cli.md with them. */
export const RUN_OPTIONS: CommandOptions = Object.fromEntries(
  [...[CONFIG, ...OPTION_SETTINGS].flatMap(listOptions), ...PRINT_OPTIONS]
    .filter(({ isOfAdditionOnly = false }) => !isOfAdditionOnly)
    .sort((a, b) => OPTION_GROUPS.indexOf(a.group) - OPTION_GROUPS.indexOf(b.group))
    .map((option) => [option.name, commandOption(option)]),
);

function commandOption(option: Option): CommandOption {
  const { help, byDefault, forms } = option;
  const described = byDefault === undefined ? help : `${help} [default: ${byDefault}]`;
  return {
    ...option,
    describe: forms === undefined ? described : capitalize(described),
    expected: forms === undefined ? help : `${listWords(forms)}: ${help}`,
  };
}

function capitalize(text: string): string {
  return text.replace(/^[a-z]/, (letter) => letter.toUpperCase());
}

/** Formats `a, b or c`. */
function listWords(words: readonly string[]): string {
  return words.join(', ').replace(/, (?=[^,]*$)/, ' or ');
}

// Their environment variables, for containers: those of the settings that have one.

const VARIABLE_ROWS = ([CONFIG, ...OPTION_SETTINGS] as readonly Setting[]).flatMap(({ variable, ...row }) =>
  variable === undefined ? [] : [{ ...row, variable }],
);

/** The variables, each with its meaning: `as --config`, or the accepted words. */
export const RUN_VARIABLES: readonly (readonly [name: string, about: string])[] = VARIABLE_ROWS.map(
  ({ variable, type, ...row }) => {
    const [option] = listOptions(row);
    return [variable, option?.value === undefined ? type.expected : `as --${option.name}`];
  },
);

/** Whether the environment alone says what to run; an empty variable of a container is a mistake, not a request for help. */
export const isRunByEnvironment = (environment: Environment): boolean =>
  [CONFIG, ADDRESS].some(({ variable }) => environment[variable] !== undefined);

/** Removes the variables from `environment`, so that programs that vproxy runs do not inherit them, and returns them. */
export function takeRunVariables(environment: NodeJS.ProcessEnv): Readonly<Record<string, string>> {
  const taken: Record<string, string> = {};
  for (const { variable } of VARIABLE_ROWS) {
    const value = environment[variable];
    if (value !== undefined) taken[variable] = value;
    Reflect.deleteProperty(environment, variable);
  }
  return taken;
}
