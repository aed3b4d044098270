/** From the options that were read to what the command line asks for: every value is checked here, with one line for people. */
import { VproxyError } from '../../lib/errors.js';
import { parseChannelArgument } from '../../lib/settings/arguments.js';
import type { FlagLayer } from '../../lib/settings/configuration.js';
import { PROCESS_SETTINGS } from '../../lib/settings/process-settings.js';
import { badOption, type GivenOptions, onlyValue, readOptions, requireValue } from '../../lib/settings/setting.js';
import { CHANNEL_SETTINGS, PORT_SETTINGS } from '../../lib/settings/table.js';
import { escapeText } from '../../lib/util/escape.js';

/** The arguments of the command as yargs gives them. */
export type RawArguments = Readonly<Record<string, unknown>>;

/** What the command line asks for. */
export interface RunFlags extends FlagLayer {
  /** The configuration file, or null. */
  readonly file: string | null;
  /** Whether what would be in force is only printed. */
  readonly isPrinted: boolean;
  /** Whether it is printed as JSON. */
  readonly asJson: boolean;
}

/** The flags in `args`. Throws `bad-argument`, naming the argument and what would be right. */
export function parseRunFlags(args: RawArguments): RunFlags {
  rejectOperands(args);
  const given = givenIn(args);
  return {
    ...readOptions(PROCESS_SETTINGS, given, 'file'),
    file: onlyValue('config', given) ?? null,
    isPrinted: given('print-config').length > 0,
    asJson: parseJson(given),
    settings: readOptions(CHANNEL_SETTINGS, given, 'file'),
    channels: given('channel').map((value) => parseChannelArgument(requireValue(value, '-c'))),
    forwards: (['outgoing', 'incoming'] as const).flatMap((direction) =>
      given(direction).map((text) => ({ direction, text })),
    ),
    vsockPorts: readOptions(PORT_SETTINGS, given, 'file').vsockPorts ?? {},
  };
}

/** Every value of an option. A flag is true, or a number where it counts. */
function givenIn(args: RawArguments): GivenOptions {
  return (name) => {
    const value = args[name];
    if (value === undefined || value === false) return [];
    if (value === true) return [''];
    return typeof value === 'number' ? Array<string>(value).fill('') : [value].flat().map(String);
  };
}

function parseJson(given: GivenOptions): boolean {
  if (given('json').length === 0) return false;
  if (given('print-config').length > 0) return true;
  throw badOption('--json', 'it says how --print-config prints, which is not there');
}

/** Words that belong to no option; yargs reports them unless they stand behind `--`. */
function rejectOperands(args: RawArguments): void {
  const operands = args['_'];
  if (!Array.isArray(operands) || operands.length === 0) return;
  throw new VproxyError(
    'bad-argument',
    `"${escapeText(String(operands[0]), 64)}": every argument belongs to an option; see --help`,
  );
}
