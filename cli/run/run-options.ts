/** From the options that were read to what the command line asks for: every value is checked here, with one line for people. */
import { badArgument } from '../../lib/errors.js';
import { parseChannelArgument } from '../../lib/settings/arguments.js';
import type { FlagLayer } from '../../lib/settings/configuration.js';
import { PROCESS_SETTINGS } from '../../lib/settings/process-settings.js';
import { type GivenOptions, onlyValue, readOptions, requireValue } from '../../lib/settings/setting.js';
import { CHANNEL_SETTINGS, PORT_SETTINGS } from '../../lib/settings/settings-table.js';

/** What the command line asks for. */
export interface RunFlags extends FlagLayer {
  /** The configuration file, or null. */
  readonly file: string | null;
  /** Whether what would be in force is only printed. */
  readonly isPrinted: boolean;
  /** Whether it is printed as JSON. */
  readonly asJson: boolean;
}

/** The flags that are given. Throws `bad-argument`, naming the argument and what would be right. */
export function parseRunFlags(given: GivenOptions): RunFlags {
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

function parseJson(given: GivenOptions): boolean {
  if (given('json').length === 0) return false;
  if (given('print-config').length > 0) return true;
  throw badArgument('--json: it says how --print-config prints, which is not there');
}
