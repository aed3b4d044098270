/** Rules of services in a configuration file: `[services.ssh]`, for all channels or within one. */
import { SERVICE_NAME } from '../codec/limits.js';
import type { ChannelPolicies, ChannelPolicy } from '../proxy/channel-policy.js';
import { checkTable } from './check-table.js';
import { isTable, RULE_SCHEMA } from './file-schema.js';
import type { KeyPath, Problem } from './problem.js';

/** The rules in a table of rules by service; what is wrong goes to `problems`. */
export function parseServiceRules(table: object = {}, path: KeyPath, problems: Problem[]): ChannelPolicies {
  const rules = Object.entries(table).flatMap(([service, value]: [string, unknown]) => {
    const where = [...path, service];
    if (!SERVICE_NAME.test(service)) {
      const message =
        'the name of a service is 1 to 64 of a-z, 0-9, dot, underscore and hyphen, and begins with a letter or digit';
      problems.push({ where, message });
    }
    if (!isTable(value)) {
      problems.push({ where, message: 'expected a table, such as { streams = 10 }' });
      return [];
    }
    const found = checkTable(RULE_SCHEMA, value, where, problems);
    if (found === null) return [];
    const rule: ChannelPolicy = {
      ...(found.channels === undefined ? {} : { channels: found.channels }),
      ...(found.streams === undefined ? {} : { streams: found.streams }),
      ...(found['opens-per-second'] === undefined ? {} : { opensPerSecond: found['opens-per-second'] }),
      ...(found['bytes-per-second'] === undefined ? {} : { bytesPerSecond: found['bytes-per-second'] }),
      ...(found['idle-timeout'] === undefined ? {} : { idleTimeoutMs: found['idle-timeout'] * 1000 }),
    };
    return [[service, rule] as const];
  });
  return Object.fromEntries(rules);
}
