/** The configuration of a vproxy process: plain values from a command line and a file, and how to write them as a file. */
import { stringify } from 'smol-toml';
import type { ChannelAddress } from '../channel/address/address.js';
import type { LogLevel } from '../events.js';
import type { Direction } from '../forward/forms/endpoint-form.js';
import { describeForward, type ForwardSpec } from '../forward/spec.js';
import type { ParsedOptions } from '../proxy/channel/channel-options.js';
import { formatJson } from '../util/escape.js';
import { type LogFormat, PROCESS_SETTINGS } from './process-settings.js';
import { type SettingsOf, writeTable } from './setting.js';
import { type CHANNEL_SETTINGS, OWN_SETTINGS } from './settings-table.js';

/** Settings of the process besides its channels; unset ones are missing. */
type ProcessSettings = SettingsOf<typeof PROCESS_SETTINGS>;

/** Settings of one channel, or of all; the fields are those of `ChannelOptions`. */
export type ChannelSettings = SettingsOf<typeof CHANNEL_SETTINGS>;

export interface FileChannel extends ChannelSettings {
  readonly label: string;
  readonly address: ChannelAddress;
  readonly name?: string;
  readonly forwards: readonly ForwardSpec[];
}

/** The contents of a file, or of several. */
export interface FileLayer extends ProcessSettings {
  /** Whether it may have no channels, as a folder may have no files yet. Default false. */
  readonly mayBeEmpty?: boolean;
  /** For every channel that does not override them, including those of the command line. */
  readonly defaults: ChannelSettings;
  readonly channels: readonly FileChannel[];
}

/** The contents of a command line. */
export interface FlagLayer extends ProcessSettings {
  /** For every channel; override the file. */
  readonly settings: ChannelSettings;
  readonly channels: readonly Pick<ParsedOptions, 'label' | 'address'>[];
  /** The texts of `-o` and `-i`, which may name a channel. */
  readonly forwards: readonly { readonly direction: Direction; readonly text: string }[];
}

/** The effective configuration of a process: only the place of the control socket may be left to its default. */
export interface ProcessConfiguration extends ProcessSettings {
  readonly once: boolean;
  readonly ready: 'any' | 'all' | number;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly logDetails: boolean;
  /** Settings for all channels, for one that is added later. */
  readonly channelDefaults: ChannelSettings & { readonly name: string | null };
}

/** The same, with its channels. */
export interface Configuration extends ProcessConfiguration {
  readonly channels: readonly ParsedOptions[];
}

// The effective configuration as a file.

/** A plain value for JSON or TOML; reading it back gives the same configuration. */
export function describeConfiguration(configuration: Configuration): Record<string, unknown> {
  const { name, channels } = configuration;
  return {
    ...writeTable(PROCESS_SETTINGS, configuration, 'file'),
    channels: Object.fromEntries(channels.map((channel) => [channel.label, describeChannel(channel, name)])),
  };
}

function describeChannel(channel: ParsedOptions, processName: string | undefined) {
  const { address, forwards = [], template = [], name, ...settings } = channel;
  const texts = [...template, ...forwards.map(describeForward)];
  const textsOf = (wanted: Direction) => texts.filter(({ direction }) => direction === wanted).map(({ text }) => text);
  const ownName = name === processName ? undefined : (name ?? undefined);
  return {
    address: address.text,
    outgoing: textsOf('outgoing'),
    incoming: textsOf('incoming'),
    ...writeTable(OWN_SETTINGS, { ...settings, name: ownName }, 'file'),
  };
}

/** TOML or JSON, with a newline at its end; `parseConfiguration` reads it back. */
export function formatConfiguration(configuration: Configuration, format: 'toml' | 'json'): string {
  const value = describeConfiguration(configuration);
  return format === 'json' ? `${formatJson(value, 2)}\n` : `${stringify(value)}\n`;
}
