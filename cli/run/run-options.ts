/** Parses and validates the run options; each error is one human-readable line. */
import { badArgument } from '../../lib/errors.js';
import { parseChannelArgument } from '../../lib/settings/arguments.js';
import type { FlagLayer } from '../../lib/settings/configuration.js';
import { PROCESS_SETTINGS } from '../../lib/settings/process-settings.js';
import { type GivenOptions, onlyValue, readOptions, requireValue } from '../../lib/settings/setting.js';
import { CHANNEL_SETTINGS, PORT_SETTINGS } from '../../lib/settings/settings-table.js';

/** The parsed command line. */
export interface RunFlags extends FlagLayer {
  /** The configuration file, or null. */
  readonly file: string | null;
  /** Whether to only print the resulting configuration. */
  readonly isPrinted: boolean;
  /** Whether to print it as JSON. */
  readonly asJson: boolean;
}

/** Parses the given flags. Throws `bad-argument` with the argument and what is expected. */
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
  throw badArgument('--json: only allowed with --print-config');
}
