/** Rules of services, `[services.ssh]`: what peers may do with a service of this side. */
import { SERVICE_NAME } from '../codec/limits.js';
import { VproxyError } from '../errors.js';
import { type ChannelPolicies, type ChannelPolicy, parseLabel } from '../proxy/channel-options.js';
import { splitAtCommas } from '../util/addresses.js';
import { escapeText } from '../util/escape.js';
import {
  badOption,
  type GivenOptions,
  inOption,
  parseValues,
  readTable,
  requestSchema,
  requireValue,
  type SettingWithin,
  writeTable,
} from './setting.js';
import { amount, type Form, isTable, list, type Place, parsed, rate, seconds, type ValueType } from './value-type.js';

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

const EXPECTED = 'a table for each service, such as [services.ssh]';

/** Rules by the names of their services. */
export const serviceRules: ValueType<ChannelPolicies> = {
  expected: EXPECTED,
  read(value, place) {
    if (!isTable(value)) return place.fail(`expected ${EXPECTED}`);
    const rules = Object.entries(value).map(
      ([service, rule]) => [service, readRule(service, rule, place.at(service))] as const,
    );
    return { value: Object.fromEntries(rules.filter(([, rule]) => rule !== null)) as ChannelPolicies };
  },
  write(policies, form) {
    const rules = Object.entries(policies).map(([service, rule]) => [service, writeTable(RULE_SETTINGS, rule, form)]);
    return rules.length === 0 ? undefined : (Object.fromEntries(rules) as object);
  },
  schema: (z) => {
    const description = 'What the peer may do with a service; what is not said is not bounded';
    return z.record(z.string(), requestSchema(z, RULE_SETTINGS).meta({ id: 'RuleRequest', description }));
  },
};

function readRule(service: string, rule: unknown, place: Place): ChannelPolicy | null {
  if (!SERVICE_NAME.test(service)) place.fail(NAME_EXPECTED);
  return isTable(rule)
    ? readTable(RULE_SETTINGS, rule, place)
    : place.fail('expected a table, such as { streams = 10 }');
}

const NAME_EXPECTED =
  'the name of a service is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, and begins with a letter or digit';

/** The rules of `--rule SERVICE:KEY=VALUE[,KEY=VALUE…]`, where a list has its key once for each value. Throws `bad-argument`. */
export function parseRules(given: GivenOptions, form: Form): ChannelPolicies | undefined {
  const texts = given('rule');
  if (texts.length === 0) return undefined;
  const rules = new Map<string, ChannelPolicy>();
  for (const text of texts) {
    const [service, rule] = inOption('--rule', () => parseRule(requireValue(text, '--rule'), form));
    if (rules.has(service)) throw badOption('--rule', `the service ${service} is there twice`);
    rules.set(service, rule);
  }
  return Object.fromEntries(rules);
}

function parseRule(text: string, form: Form): readonly [service: string, rule: ChannelPolicy] {
  const [, service, rest = ''] = /^([^:]*):(.+)$/s.exec(text) ?? [];
  const parts = splitAtCommas(rest).map((part) => /^([^=]+)=(.*)$/s.exec(part));
  if (service === undefined || parts.includes(null)) {
    throw bad(`"${escapeText(text, 100)}" is not SERVICE:KEY=VALUE[,KEY=VALUE…], such as ssh:streams=10`);
  }
  if (!SERVICE_NAME.test(service)) throw bad(NAME_EXPECTED);
  const given = parts.map((part) => ({ key: part?.[1] ?? '', value: part?.[2] ?? '' }));
  const known: readonly string[] = RULE_SETTINGS.map(({ key }) => key);
  const unknown = given.find(({ key }) => !known.includes(key));
  if (unknown !== undefined) {
    throw bad(`there is no key "${escapeText(unknown.key, 64)}" of a rule; there are: ${known.join(', ')}`);
  }
  const entries = RULE_SETTINGS.flatMap(({ key, field, type }) => {
    const values = given.filter((one) => one.key === key).map(({ value }) => value);
    // An empty list is `channels=`.
    const own = 'of' in type ? values.filter((value) => value !== '') : values;
    return values.length === 0 ? [] : [[field, parseValues(type, own, key, form)]];
  });
  return [service, Object.fromEntries(entries) as ChannelPolicy];
}

/** Both, of which `own` wins, key by key. */
export function mergeServiceRules(all: ChannelPolicies, own: ChannelPolicies): ChannelPolicies {
  const services = new Set([...Object.keys(all), ...Object.keys(own)]);
  return Object.fromEntries([...services].map((service) => [service, { ...all[service], ...own[service] }]));
}

const bad = (what: string): VproxyError => new VproxyError('bad-argument', what);
