/** Rules of services, `[services.ssh]`: what peers may do with a service of this side. */
import { type ChannelPolicies, parseLabel } from '../proxy/channel-options.js';
import { type NamedTables, namedTables, parseNamedTables } from './named-tables.js';
import type { GivenOptions, SettingWithin } from './setting.js';
import { amount, type Form, list, parsed, rate, seconds, type ValueType } from './value-type.js';

const MAX_STREAMS = 1_048_576;
const MAX_SECONDS = 86_400;

const label = parsed('the label of a channel or a group', parseLabel, (value) => value);

/** What a rule may say. */
export const RULE_SETTINGS = [
  {
    key: 'channels',
    field: 'channels',
    type: list(label, 'a list of labels, such as ["vm1"]'),
    about: 'The labels of the channels, and of the groups, whose peers may open it; default: all',
    reload: 'now',
  },
  {
    key: 'streams',
    field: 'streams',
    type: amount('streams', 1, MAX_STREAMS),
    about: 'Streams at once on each channel',
    reload: 'now',
  },
  {
    key: 'opens-per-second',
    field: 'opensPerSecond',
    type: rate('openings', 0.01, 1_000_000),
    about: 'Streams opened a second on each channel, in the long run; the same number may be opened at once',
    reload: 'now',
  },
  {
    key: 'bytes-per-second',
    field: 'bytesPerSecond',
    type: rate('bytes', 1024, 1e12),
    about: 'Bytes a second, each way, of all streams of a channel together',
    reload: 'now',
  },
  {
    key: 'idle-timeout',
    field: 'idleTimeoutMs',
    type: seconds(1, MAX_SECONDS),
    about: 'A stream over which nothing passed for this time is reset',
    reload: 'now',
  },
] as const satisfies readonly SettingWithin<'policies', unknown>[];

const SORT = {
  rows: RULE_SETTINGS,
  named: 'a service',
  table: 'a rule',
  header: '[services.ssh]',
  inline: '{ streams = 10 }',
  option: { shown: '--rule', form: 'SERVICE:KEY=VALUE[,KEY=VALUE…]', example: 'ssh:streams=10' },
  schema: {
    id: 'RuleRequest',
    description: 'What the peer may do with a service; what is not said is not bounded',
  },
} as const satisfies NamedTables<typeof RULE_SETTINGS>;

/** Rules by the names of their services. */
export const serviceRules: ValueType<ChannelPolicies> = namedTables(SORT);

/** The rules of `--rule SERVICE:KEY=VALUE[,KEY=VALUE…]`. Throws `bad-argument`. */
export function parseRules(given: GivenOptions, form: Form): ChannelPolicies | undefined {
  return parseNamedTables(SORT, given, form);
}
