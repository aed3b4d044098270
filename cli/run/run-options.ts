/** Parses and validates the run options; each error is one human-readable line. */
import { badArgument, naming } from '../../lib/errors.js';
import { parseChannelArgument } from '../../lib/settings/arguments.js';
import { ADDRESS } from '../../lib/settings/channel-settings.js';
import type { FlagLayer } from '../../lib/settings/configuration.js';
import { PROCESS_SETTINGS } from '../../lib/settings/process-settings.js';
import {
  type Environment,
  type GivenOptions,
  readOptions,
  readVariables,
  requireValue,
  type Setting,
  type SettingsOf,
} from '../../lib/settings/setting.js';
import { CHANNEL_SETTINGS } from '../../lib/settings/settings-table.js';
import { CONFIG } from './options.js';

/** The parsed command line and environment. */
export interface RunFlags extends FlagLayer {
  readonly file: string | null;
  /** Whether to only print the resulting configuration. */
  readonly isPrinted: boolean;
  readonly asJson: boolean;
}

/**
 * Parses the given flags, and the variables of an environment, which they override. Throws `bad-argument` with the argument
 * or the variable and what is expected.
 */
export function parseRunFlags(given: GivenOptions, environment: Environment = {}): RunFlags {
  const read = <R extends readonly Setting[]>(rows: R): SettingsOf<R> => ({
    ...readVariables(rows, environment),
    ...readOptions(rows, given, 'file'),
  });
  return {
    ...read(PROCESS_SETTINGS),
    file: read([CONFIG] as const).file ?? null,
    isPrinted: given('print-config').length > 0,
    asJson: parseJson(given),
    settings: read(CHANNEL_SETTINGS),
    channels: readChannels(given('channel'), environment[ADDRESS.variable]),
    forwards: (['outgoing', 'incoming'] as const).flatMap((direction) =>
      given(direction).map((text) => ({ direction, text })),
    ),
  };
}

/** The channels of `-c`, or else the one of the variable. */
function readChannels(texts: readonly string[], variable: string | undefined): FlagLayer['channels'] {
  if (texts.length > 0 || !variable) return texts.map((text) => parseChannelArgument(requireValue(text, '-c')));
  return naming(ADDRESS.variable, () => [parseChannelArgument(variable)]);
}

function parseJson(given: GivenOptions): boolean {
  if (given('json').length === 0) return false;
  if (given('print-config').length > 0) return true;
  throw badArgument('--json: only allowed with --print-config');
}
