/** Merges a file and a command line into one configuration; the command line wins. */
import { badArgument } from '../errors.js';
import type { Direction } from '../forward/forms/endpoint-form.js';
import { describeForward, type ForwardSpec, formatEndpoint } from '../forward/spec.js';
import type { ParsedOptions } from '../proxy/channel/channel-options.js';
import { isGroup } from '../proxy/groups/group-pattern.js';
import { byLabel } from '../util/labels.js';
import { parseForwardArgument } from './arguments.js';
import type { Configuration, FileChannel, FileLayer, FlagLayer } from './configuration.js';
import { PROCESS_SETTINGS } from './process-settings.js';
import { completeSettings, mergeSettings } from './setting.js';
import { CHANNEL_SETTINGS } from './settings-table.js';

/**
 * The effective configuration of a file (null: none) and a command line. A channel of the command line changes the
 * address of the one with its label, or is added; its forwards are added, and replace those that they exclude.
 * `running` has the name of a process that reloads its file: its channels keep that name. Throws `bad-argument`.
 */
export function mergeConfiguration(
  file: FileLayer | null,
  flags: FlagLayer,
  running: Pick<Configuration, 'name'> | null = null,
): Configuration {
  const process = completeSettings(PROCESS_SETTINGS, mergeSettings(PROCESS_SETTINGS, file ?? {}, flags));
  // A process never changes its name.
  const { name = null } = running ?? process;
  const channels = mergeForwards(mergeChannels(file, flags), flags);
  requireApplicable(channels, flags);
  if (process.once) requireOneChannel(channels);
  const complete = ({ label, address, forwards, name: ownName, ...own }: FileChannel): ParsedOptions =>
    completeChannel({
      ...mergeSettings(CHANNEL_SETTINGS, mergeSettings(CHANNEL_SETTINGS, file?.defaults, own), flags.settings),
      ...(isGroup(address) ? { template: forwards.map(describeForward) } : { forwards }),
      label,
      address,
      name: ownName ?? name,
    });
  return {
    ...process,
    channelDefaults: { name, storage: {}, ...mergeSettings(CHANNEL_SETTINGS, file?.defaults, flags.settings) },
    channels: channels.map(complete),
  };
}

/** A channel with all defaults filled in, so that equal ones mean the same. */
export function completeChannel(options: ParsedOptions): ParsedOptions {
  const { label, address, forwards = [], template, name = null } = options;
  const { isAllowed = true, socketPath = null, parallel = 1 } = options.storage ?? {};
  return {
    ...completeSettings(CHANNEL_SETTINGS, options, address.traits),
    label,
    address,
    forwards: forwards.toSorted(byDirection),
    ...(template === undefined ? {} : { template: template.toSorted(byDirection) }),
    name,
    storage: isAllowed ? { isAllowed, socketPath, parallel } : { isAllowed, socketPath: null, parallel: 1 },
  };
}

/** The order of forwards in a file: outgoing ones first. */
const byDirection = (a: { readonly direction: Direction }, b: { readonly direction: Direction }): number =>
  b.direction.localeCompare(a.direction);

function mergeChannels(file: FileLayer | null, flags: FlagLayer): FileChannel[] {
  const channels = byLabel(file?.channels ?? []);
  const given = new Set<string>();
  for (const { label, address } of flags.channels) {
    if (given.has(label))
      throw badArgument(`-c: duplicate label "${label}"; label each channel with -c LABEL=KIND:ADDRESS`);
    given.add(label);
    channels.set(label, { forwards: [], ...channels.get(label), label, address });
  }
  if (channels.size > 0 || file?.mayBeEmpty === true) return [...channels.values()];
  throw badArgument(
    '-c: missing channel; expected -c KIND:ADDRESS or VPROXY_CHANNEL, such as -c unix-connect:/run/vm1.sock',
  );
}

function mergeForwards(channels: readonly FileChannel[], { forwards }: FlagLayer): FileChannel[] {
  const known = new Map(channels.map(({ label, address }) => [label, isGroup(address)]));
  const given = forwards.map(({ direction, text }) => parseForwardArgument(direction, text, known));
  return channels.map((channel) => {
    const own = given.filter(({ label }) => label === channel.label).map(({ spec }) => spec);
    const kept = channel.forwards.filter((spec) => !own.some((other) => excludes(other, spec)));
    return { ...channel, forwards: [...kept, ...own] };
  });
}

/** Whether two forwards of a channel exclude each other: a service is offered once, an address listened on once. */
function excludes(one: ForwardSpec, other: ForwardSpec): boolean {
  if (one.direction !== other.direction) return false;
  if (one.direction === 'incoming') return one.service === other.service;
  const isPicked = 'host' in one.endpoint && one.endpoint.port === 0;
  return !isPicked && formatEndpoint(one.endpoint) === formatEndpoint(other.endpoint);
}

/** Rejects options that several channels cannot share. */
function requireApplicable(channels: readonly FileChannel[], { settings }: FlagLayer): void {
  if (channels.length > 1 && (settings.storage?.socketPath ?? null) !== null) {
    const labels = channels.map(({ label }) => label).join(', ');
    throw badArgument(
      `--storage-socket: cannot be shared by several channels (${labels}); set it for one of them in a --config file`,
    );
  }
}

/** `--once` ends with one session, and a group has any number of channels. */
function requireOneChannel(channels: readonly FileChannel[]): void {
  if (channels.length === 1 && !channels.some(({ address }) => isGroup(address))) return;
  throw badArgument('--once: needs exactly one channel, not several or a group');
}
