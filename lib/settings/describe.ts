/** What is in force, as a configuration file says it. */

import { stringify } from 'smol-toml';
import type { Direction } from '../forward/endpoint-kind.js';
import { formatForwardSpec } from '../forward/spec.js';
import { formatHostPort } from '../util/addresses.js';
import { formatJson } from '../util/escape.js';
import { formatAuditPlace } from './arguments.js';
import { type Configuration, describeServiceRules } from './configuration.js';
import { describeCopy, describeExec } from './permissions.js';

/** A plain value for JSON or TOML; reading it back gives the same configuration. */
export function describeConfiguration(configuration: Configuration): Record<string, unknown> {
  const { name, control, metrics, audit, once, logLevel, logFormat, logDetails, channels } = configuration;
  return {
    ...(name === undefined ? {} : { name }),
    ...(control === undefined ? {} : { control }),
    ...(metrics === undefined ? {} : { metrics: formatHostPort(metrics) }),
    ...(audit === undefined ? {} : { audit: formatAuditPlace(audit) }),
    once,
    'log-level': logLevel,
    'log-format': logFormat,
    'log-details': logDetails,
    channels: Object.fromEntries(channels.map((channel) => [channel.label, describeChannel(channel, name)])),
  };
}

function describeChannel(channel: Configuration['channels'][number], processName: string | undefined) {
  const {
    address,
    forwards = [],
    template = [],
    name = null,
    waitMs = 0,
    deadAfterMs = null,
    insecure = false,
    keyFiles = [],
    peerAddress = false,
    policies = {},
    exec = null,
    copy = null,
  } = channel;
  const { isAllowed = true, socketPath = null, parallel = 1 } = channel.storage ?? {};
  const texts = [
    ...template,
    ...forwards.map((spec) => ({ direction: spec.direction, text: formatForwardSpec(spec) })),
  ];
  const textsOf = (wanted: Direction) => texts.filter(({ direction }) => direction === wanted).map(({ text }) => text);
  return {
    address,
    outgoing: textsOf('outgoing'),
    incoming: textsOf('incoming'),
    ...(name === null || name === processName ? {} : { name }),
    wait: waitMs / 1000,
    'dead-after': (deadAfterMs ?? 0) / 1000,
    insecure,
    keys: keyFiles,
    'peer-address': peerAddress,
    'allow-exec': describeExec(exec),
    'allow-copy': describeCopy(copy),
    ...(Object.keys(policies).length === 0 ? {} : { services: describeServiceRules(policies) }),
    storage: isAllowed && { ...(socketPath === null ? {} : { socket: socketPath }), parallel },
  };
}

// The text of what is in force, such as a configuration file has it.

/** TOML or JSON, with a newline at its end; `parseConfiguration` reads it back. */
export function formatConfiguration(configuration: Configuration, format: 'toml' | 'json'): string {
  const value = describeConfiguration(configuration);
  return format === 'json' ? `${formatJson(value, 2)}\n` : `${stringify(value)}\n`;
}
