/** What a process of vproxy is to be: the plain values that a command line and a file become, and how a file says them. */
import { stringify } from 'smol-toml';

import type { LogLevel } from '../events.js';
import type { Direction } from '../forward/endpoint-kind.js';
import { type ForwardSpec, formatForwardSpec } from '../forward/spec.js';
import type { ChannelOptions } from '../proxy/channel-options.js';
import { formatJson } from '../util/escape.js';
import { type LogFormat, PROCESS_SETTINGS } from './process-settings.js';
import { type SettingsOf, writeTable } from './setting.js';
import { type CHANNEL_SETTINGS, OWN_SETTINGS } from './settings-table.js';

/** What is asked of the process besides its channels; what is not asked for is missing. */
type ProcessSettings = SettingsOf<typeof PROCESS_SETTINGS>;

/** What can be said for one channel, or for all; its fields are those of `ChannelOptions`. */
export type ChannelSettings = SettingsOf<typeof CHANNEL_SETTINGS>;

/** One channel of a file. */
export interface FileChannel extends ChannelSettings {
  readonly label: string;
  readonly address: string;
  readonly name?: string;
  readonly forwards: readonly ForwardSpec[];
}

/** What a file says. */
export interface FileLayer extends ProcessSettings {
  /** For every channel that says nothing else, also for those of the command line. */
  readonly defaults: ChannelSettings;
  readonly channels: readonly FileChannel[];
}

/** What a command line says. */
export interface FlagLayer extends ProcessSettings {
  /** For every channel, whatever the file says of it. */
  readonly settings: ChannelSettings;
  readonly channels: readonly { readonly label: string; readonly address: string }[];
  /** The texts of `-o` and `-i`, which may name a channel. */
  readonly forwards: readonly { readonly direction: Direction; readonly text: string }[];
  /** What ports mean on each `*:vsock-mux:/path`. */
  readonly vsockPorts: Readonly<Record<number, string>>;
}

/** What is in force: only where the control socket is may be left to its default. */
export interface Configuration extends ProcessSettings {
  readonly once: boolean;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
  readonly logDetails: boolean;
  /** What was said for all channels, for one that is added later. */
  readonly channelDefaults: ChannelSettings & { readonly name: string | null };
  readonly channels: readonly (ChannelOptions & { readonly label: string })[];
}

// What is in force, as a file says it.

/** A plain value for JSON or TOML; reading it back gives the same configuration. */
export function describeConfiguration(configuration: Configuration): Record<string, unknown> {
  const { name, channels } = configuration;
  return {
    ...writeTable(PROCESS_SETTINGS, configuration, 'file'),
    channels: Object.fromEntries(channels.map((channel) => [channel.label, describeChannel(channel, name)])),
  };
}

function describeChannel(channel: Configuration['channels'][number], processName: string | undefined) {
  const { address, forwards = [], template = [], name, ...settings } = channel;
  const texts = [
    ...template,
    ...forwards.map((spec) => ({ direction: spec.direction, text: formatForwardSpec(spec) })),
  ];
  const textsOf = (wanted: Direction) => texts.filter(({ direction }) => direction === wanted).map(({ text }) => text);
  const ownName = name === processName ? undefined : (name ?? undefined);
  return {
    address,
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
