/**
 * Rules of services, `[services.ssh]`: what peers may do with a service of this side; and rules of egresses,
 * `[egress.internet]`: what their targets let the peers reach.
 */
import { badArgument } from '../errors.js';
import { MAX_ASK_S } from '../forward/egress/rules.js';
import { type ChannelPolicies, type ChannelPolicy, parseLabel } from '../proxy/channel/channel-options.js';
import { type ChannelEgress, checkEgressEntry, checkUpstream } from '../proxy/egress/definitions.js';
import { type NamedTables, namedTables, parseNamedTables } from './named-tables.js';
import { requireFolder } from './permissions.js';
import type { GivenOptions, SettingWithin } from './setting.js';
import { amount, type Form, list, oneOf, parsed, rate, seconds, type ValueType, yesOrNo } from './value-type.js';

const MAX_STREAMS = 1_048_576;
const MAX_SECONDS = 86_400;

const label = parsed('the label of a channel or a group', parseLabel, (value) => value);

const folder = parsed('the absolute path of a folder', requireFolder, (value) => value);

/** The service that has terminals; its module is not loaded for that. */
const EXEC_SERVICE: typeof import('../services/exec/exec-messages.js').EXEC_SERVICE = 'exec';

/** In an option it has a value, like every key there. */
const trueOrFalse: ValueType<boolean> = {
  ...yesOrNo,
  parse: (text, form) => oneOf(['true', 'false'], 'is not true or false').parse?.(text, form) === 'true',
};

export const RULE_SETTINGS = [
  {
    key: 'channels',
    field: 'channels',
    type: list(label, 'a list of labels, such as ["vm1"]'),
    about: 'The labels of the channels and groups whose peers may open it; default: all',
    reload: 'now',
  },
  {
    key: 'streams',
    field: 'streams',
    type: amount('streams', 1, MAX_STREAMS),
    about: 'The most concurrent streams on each channel',
    reload: 'now',
  },
  {
    key: 'opens-per-second',
    field: 'opensPerSecond',
    type: rate('openings', 0.01, 1_000_000),
    about: 'Streams opened per second on each channel, on average; as many may be opened at once',
    reload: 'now',
  },
  {
    key: 'bytes-per-second',
    field: 'bytesPerSecond',
    type: rate('bytes', 1024, 1e12),
    about: 'Bytes per second, each way, for all streams of a channel together',
    reload: 'now',
  },
  {
    key: 'idle-timeout',
    field: 'idleTimeoutMs',
    type: seconds(1, MAX_SECONDS),
    about: 'A stream that is idle for this long is reset',
    reload: 'now',
  },
  {
    key: 'record',
    field: 'recordFolder',
    type: folder,
    about: 'The folder for recordings of the terminals of commands; only for the service exec',
    reload: 'now',
  },
  {
    key: 'record-input',
    field: 'recordsInput',
    type: trueOrFalse,
    about: 'Whether typed input is recorded too, including passwords; default: false',
    reload: 'now',
  },
] as const satisfies readonly SettingWithin<'policies', unknown>[];

const SERVICES = {
  rows: RULE_SETTINGS,
  named: 'a service',
  check: requireFitting,
  table: 'a rule',
  header: '[services.ssh]',
  inline: '{ streams = 10 }',
  option: { shown: '--rule', form: 'SERVICE:KEY=VALUE[,KEY=VALUE…]', example: 'ssh:streams=10' },
  schema: {
    id: 'RuleRequest',
    description: 'What the peer may do with a service; without a key there is no limit',
  },
} as const satisfies NamedTables<typeof RULE_SETTINGS>;

function requireFitting(service: string, { recordFolder, recordsInput }: ChannelPolicy): void {
  const key = recordFolder !== undefined ? 'record' : recordsInput !== undefined ? 'record-input' : null;
  if (key === null || service === EXEC_SERVICE) return;
  throw badArgument(`${key}: only the service ${EXEC_SERVICE} has terminals to record`);
}

export const serviceRules: ValueType<ChannelPolicies> = namedTables(SERVICES);

/** Parses `--rule SERVICE:KEY=VALUE[,KEY=VALUE…]`. Throws `bad-argument`. */
export function parseRules(given: GivenOptions, form: Form): ChannelPolicies | undefined {
  return parseNamedTables(SERVICES, given, form);
}

// Egresses.

const same = (value: string): string => value;

const entries = list(
  parsed('an entry, such as "deb.debian.org:80,443"', checkEgressEntry, same),
  'a list of entries, such as ["deb.debian.org:80,443"]',
);

export const EGRESS_SETTINGS = [
  {
    key: 'allow',
    field: 'allow',
    type: entries,
    about: 'Allowed destinations: names, addresses and networks, each with its ports; default: none',
    reload: 'now',
  },
  {
    key: 'deny',
    field: 'deny',
    type: entries,
    about: 'Denied destinations, which override `allow`; default: none',
    reload: 'now',
  },
  {
    key: 'upstream',
    field: 'upstream',
    type: parsed('HOST:PORT', checkUpstream, same),
    about: 'The HTTP proxy, `HOST:PORT`, through which everything is reached; default: none',
    reload: 'now',
  },
  {
    key: 'ask',
    field: 'askMs',
    type: seconds(1, MAX_ASK_S),
    about: 'How long a destination that no entry names waits for an operator’s answer; default: it is refused at once',
    reload: 'now',
  },
] as const satisfies readonly SettingWithin<'egress', unknown>[];

const EGRESSES = {
  rows: EGRESS_SETTINGS,
  named: 'an egress',
  table: 'an egress',
  header: '[egress.internet]',
  inline: '{ allow = ["deb.debian.org:80,443"] }',
  option: { shown: '--egress', form: 'NAME:KEY=VALUE[,KEY=VALUE…]', example: 'internet:allow=deb.debian.org:80,443' },
  hasCommas: true,
  schema: {
    id: 'EgressRequest',
    description: 'What the targets of an egress let the peer reach; `{channel}` in an entry stands for the label',
  },
} as const satisfies NamedTables<typeof EGRESS_SETTINGS>;

export const egressRules: ValueType<ChannelEgress> = namedTables(EGRESSES);

/** Parses `--egress NAME:KEY=VALUE[,KEY=VALUE…]`. Throws `bad-argument`. */
export function parseEgressOptions(given: GivenOptions, form: Form): ChannelEgress | undefined {
  return parseNamedTables(EGRESSES, given, form);
}
