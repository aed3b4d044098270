/** The options of the command that runs a proxy, as the doctor takes them: people put `doctor` before what they have. */
import type { GivenOptions } from '../../lib/settings/setting.js';
import type { Arguments } from '../command/arguments.js';
import type { CommandOptions } from '../command/command.js';
import { RUN_OPTIONS } from '../run/options.js';

/** Those that are not in `shown`, without a place in the help. An option that may be given once is checked where its values are parsed. */
export const hiddenRunOptions = (shown: CommandOptions): CommandOptions =>
  Object.fromEntries(
    Object.entries(RUN_OPTIONS)
      .filter(([name]) => !Object.hasOwn(shown, name))
      .map(([name, option]) => [name, { ...option, isHidden: true }]),
  );

/** These say how the doctor prints, or nothing to it. */
const OWN: ReadonlySet<string> = new Set(['json', 'print-config']);

/** What the command that runs a proxy is given. */
export const givenToRun =
  (args: Arguments): GivenOptions =>
  (name) =>
    OWN.has(name) ? [] : args.texts(name);
