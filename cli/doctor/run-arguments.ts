/** The run options, which the doctor accepts as well: users put `doctor` before an existing command line. */
import type { GivenOptions } from '../../lib/settings/setting.js';
import type { Arguments } from '../command/arguments.js';
import type { CommandOptions } from '../command/command.js';
import { RUN_OPTIONS } from '../run/options.js';

/** Returns the options not in `shown`, hidden from the help. Repeated options are rejected where their values are parsed. */
export const hiddenRunOptions = (shown: CommandOptions): CommandOptions =>
  Object.fromEntries(
    Object.entries(RUN_OPTIONS)
      .filter(([name]) => !Object.hasOwn(shown, name))
      .map(([name, option]) => [name, { ...option, isHidden: true }]),
  );

/** Options that have a meaning of the doctor's own, or none for it. */
const OWN: ReadonlySet<string> = new Set(['json', 'print-config']);

/** Returns the options meant for the run command. */
export const givenToRun =
  (args: Arguments): GivenOptions =>
  (name) =>
    OWN.has(name) ? [] : args.texts(name);
