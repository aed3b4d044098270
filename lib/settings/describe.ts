/** What is in force, as a configuration file says it. */
import { stringify } from 'smol-toml';
import type { Direction } from '../forward/endpoint-kind.js';
import { formatForwardSpec } from '../forward/spec.js';
import { formatJson } from '../util/escape.js';
import type { Configuration } from './configuration.js';
import { PROCESS_SETTINGS } from './process-settings.js';
import { writeTable } from './setting.js';
import { OWN_SETTINGS } from './table.js';

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
