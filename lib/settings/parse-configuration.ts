/** What a configuration file says, or everything that is wrong with it. */

import { SERVICE_NAME } from '../codec/limits.js';
import { toVproxyError } from '../errors.js';
import type { Direction } from '../forward/endpoint-kind.js';
import { type ForwardSpec, formatEndpoint } from '../forward/spec.js';
import { parsePortService } from '../forward/vsock-mux-endpoint.js';
import { type ChannelPolicies, type ChannelPolicy, parseLabel, type StorageOptions } from '../proxy/channel-options.js';
import { isGroup } from '../proxy/group-pattern.js';
import type { CopyPermission, ExecPermission } from '../proxy/services/built-in.js';
import { isHybridListener, withVsockPorts } from './arguments.js';
import { type ChannelSettings, type FileChannel, type FileLayer, parseForwardFor } from './configuration.js';
import { CHANNEL_SCHEMA, checkTable, FILE_SCHEMA, isTable, RULE_SCHEMA, STORAGE_SCHEMA } from './file-schema.js';
import { formatKeyPath, type KeyPath, type Problem } from './problem.js';
import { parseDocument } from './read-file.js';

/** What a file says; where there are problems, it is not to be used, and what is wrong in it is missing here. */
export interface ParsedConfiguration {
  readonly layer: FileLayer;
  readonly problems: readonly Problem[];
}

/** Reads the text of the file `name`, TOML or JSON. */
export function parseConfiguration(text: string, name: string): ParsedConfiguration {
  const document = parseDocument(text, name);
  const problems: Problem[] = [];
  if ('problem' in document) return { layer: { defaults: {}, channels: [] }, problems: [document.problem] };
  const file = checkTable(FILE_SCHEMA, document.value, [], problems);
  const outer = tablesOf(document.value);
  const policies = parseServiceRules(outer['services'], ['services'], problems);
  const tables = Object.entries(outer['channels'] ?? {});
  const channels = tables.flatMap(([label, value]) => parseChannelTable(label, value, problems) ?? []);
  requireDistinctEndpoints(channels, problems);
  const layer: FileLayer = {
    ...pick('name', file?.name),
    ...pick('control', file?.control),
    ...pick('metrics', file?.metrics),
    ...pick('audit', file?.audit),
    ...pick('once', file?.once),
    ...pick('logLevel', file?.['log-level']),
    ...pick('logFormat', file?.['log-format']),
    ...pick('logDetails', file?.['log-details']),
    defaults: {
      ...(file === null ? {} : parseSettings(file)),
      ...(outer['services'] === undefined ? {} : { policies }),
    },
    channels,
  };
  return { layer, problems };
}

/** Those keys of a table that are tables themselves. */
function tablesOf(value: unknown): Readonly<Record<string, object>> {
  return isTable(value) ? Object.fromEntries(Object.entries(value).filter(([, inner]) => isTable(inner))) : {};
}

function parseChannelTable(label: string, value: unknown, problems: Problem[]): FileChannel | null {
  const path = ['channels', label];
  const name = attempt(path, problems, () => parseLabel(label));
  const found = checkTable(CHANNEL_SCHEMA, value, path, problems);
  const address = found?.address;
  const hasStar = address !== undefined && attempt([...path, 'address'], problems, () => isGroup({ address })) === true;
  // Also what is within a channel in which something else is wrong.
  const forwards = DIRECTIONS.flatMap((direction) => parseForwards(value, hasStar, direction, path, problems));
  const inner = tablesOf(value);
  const storage = parseStorage(inner['storage'], [...path, 'storage'], problems);
  const policies = parseServiceRules(inner['services'], [...path, 'services'], problems);
  const ports = parseVsockPorts(inner['vsock-ports'], [...path, 'vsock-ports'], problems);
  if (name === null || found === null) return null;
  if (Object.keys(ports).length > 0 && !forwards.some(isHybridListener)) {
    const message = 'there is no outgoing "*:vsock-mux:/path" that it is for';
    problems.push({ where: [...path, 'vsock-ports'], message });
  }
  return {
    label,
    address: found.address,
    forwards: forwards.map((spec) => withVsockPorts(spec, ports)),
    ...pick('name', found.name),
    ...parseSettings(found),
    ...(inner['services'] === undefined ? {} : { policies }),
    ...pick('storage', found.storage === false ? { isAllowed: false } : storage),
  };
}

const DIRECTIONS: readonly Direction[] = ['outgoing', 'incoming'];

/** The forwards in a table of a channel; what is no list of texts, the schema tells. */
function parseForwards(
  value: unknown,
  hasStar: boolean,
  direction: Direction,
  path: KeyPath,
  problems: Problem[],
): ForwardSpec[] {
  const list: unknown = isTable(value) ? (value as Record<Direction, unknown>)[direction] : null;
  if (!Array.isArray(list)) return [];
  return list.flatMap((text: unknown, index) => {
    if (typeof text !== 'string' || text === '') return [];
    return attempt([...path, direction, index], problems, () => parseForwardFor(hasStar, direction, text)) ?? [];
  });
}

interface SettingsTable {
  readonly wait?: number | undefined;
  readonly 'dead-after'?: number | undefined;
  readonly insecure?: boolean | undefined;
  readonly keys?: readonly string[] | undefined;
  readonly 'peer-address'?: boolean | undefined;
  readonly 'allow-exec'?: ExecPermission | null | undefined;
  readonly 'allow-copy'?: CopyPermission | null | undefined;
}

function parseSettings(table: SettingsTable): ChannelSettings {
  const { wait, 'dead-after': deadAfter, insecure, keys, 'peer-address': peerAddress } = table;
  return {
    ...(wait === undefined ? {} : { waitMs: wait * 1000 }),
    ...(deadAfter === undefined ? {} : { deadAfterMs: deadAfter === 0 ? null : deadAfter * 1000 }),
    ...pick('insecure', insecure),
    ...pick('keyFiles', keys),
    ...pick('peerAddress', peerAddress),
    ...pick('exec', table['allow-exec']),
    ...pick('copy', table['allow-copy']),
  };
}

function parseStorage(table: object | undefined, path: KeyPath, problems: Problem[]): StorageOptions | undefined {
  if (table === undefined) return undefined;
  const found = checkTable(STORAGE_SCHEMA, table, path, problems);
  return { isAllowed: true, ...pick('socketPath', found?.socket), ...pick('parallel', found?.parallel) };
}

function parseVsockPorts(table: object = {}, path: KeyPath, problems: Problem[]): Record<number, string> {
  const pairs = Object.entries(table).flatMap(([port, service]: [string, unknown]) => {
    const where = [...path, port];
    if (typeof service !== 'string') {
      problems.push({ where, message: 'expected the name of a service' });
      return [];
    }
    const found = attempt(where, problems, () => parsePortService(`${port}=${service}`));
    return found === null ? [] : [found];
  });
  return Object.fromEntries(pairs);
}

/** An address can be listened on once in the process, a service offered once on each channel. */
function requireDistinctEndpoints(channels: readonly FileChannel[], problems: Problem[]): void {
  const taken = new Map<string, string>();
  for (const { label, forwards } of channels) {
    const counts = { outgoing: 0, incoming: 0 };
    for (const spec of forwards) {
      const where = ['channels', label, spec.direction, counts[spec.direction]++];
      const key = exclusiveText(label, spec);
      const other = key === null ? undefined : taken.get(key);
      if (other !== undefined) {
        const what = spec.direction === 'outgoing' ? formatEndpoint(spec.endpoint) : `the service ${spec.service}`;
        problems.push({ where, message: `${what} is that of ${other} already` });
      } else if (key !== null) taken.set(key, formatKeyPath(where));
    }
  }
}

/** What no two forwards have in common; null for one that excludes no other. */
function exclusiveText(label: string, { direction, service, endpoint }: ForwardSpec): string | null {
  if (direction === 'incoming') return `incoming ${label} ${service}`;
  if (endpoint.kind === 'tcp') return endpoint.port === 0 ? null : `outgoing ${formatEndpoint(endpoint)}`;
  return 'path' in endpoint ? `outgoing ${endpoint.path}` : null;
}

function attempt<T>(where: KeyPath, problems: Problem[], work: () => T): T | null {
  try {
    return work();
  } catch (error) {
    problems.push({ where, message: toVproxyError(error).message });
    return null;
  }
}

/** The field `key`, unless there is no value for it. */
function pick<K extends string, V>(key: K, value: V): { [P in K]?: Exclude<V, undefined> } {
  return value === undefined ? {} : ({ [key]: value } as { [P in K]?: Exclude<V, undefined> });
}

// Rules of services in a configuration file: `[services.ssh]`, for all channels or within one.

/** The rules in a table of rules by service; what is wrong goes to `problems`. */
function parseServiceRules(table: object = {}, path: KeyPath, problems: Problem[]): ChannelPolicies {
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
