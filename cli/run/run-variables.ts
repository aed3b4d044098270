/** The environment variables of the run command, for containers: those of the settings that have one. */
import { ADDRESS } from '../../lib/settings/channel-settings.js';
import { type Environment, listOptions, type Setting } from '../../lib/settings/setting.js';
import { OPTION_SETTINGS } from '../../lib/settings/settings-table.js';
import { CONFIG } from './options.js';

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
