/** One configuration of a file and a command line, which wins. */
import { parseChannel } from '../channel/address/address.js';
import { badArgument } from '../errors.js';
import type { Direction } from '../forward/endpoint-kind.js';
import { type ForwardSpec, formatEndpoint } from '../forward/spec.js';
import { type ChannelOptions, parseLabel } from '../proxy/channel-options.js';
import { isGroup } from '../proxy/groups/group-pattern.js';
import { byLabel } from '../util/labels.js';
import { parseForwardArgument } from './arguments.js';
import type { Configuration, FileChannel, FileLayer, FlagLayer } from './configuration.js';
import { isHybridListener, toTemplate, withVsockPorts } from './forward-settings.js';
import { PROCESS_SETTINGS } from './process-settings.js';
import { completeSettings, mergeSettings } from './setting.js';
import { CHANNEL_SETTINGS } from './settings-table.js';

type LabelledOptions = Configuration['channels'][number];

/**
 * What is in force with a file (or without: null) and a command line. A channel of the command line gives the one of its
 * label another address, or is added; its forwards are added, and take the place of those that they exclude.
 * `running` is what a process goes by that reads its file again: its channels keep that name. Throws `bad-argument`.
 */
export function mergeConfiguration(
  file: FileLayer | null,
  flags: FlagLayer,
  running: Pick<Configuration, 'name'> | null = null,
): Configuration {
  const process = completeSettings(PROCESS_SETTINGS, mergeSettings(PROCESS_SETTINGS, file ?? {}, flags));
  // A process has one name from its start to its end.
  const { name = null } = running ?? process;
  const channels = mergeForwards(mergeChannels(file, flags), flags);
  requireSense(channels, flags);
  if (process.once) requireOneChannel(channels);
  const complete = ({ label, address, forwards, name: ownName, ...own }: FileChannel): LabelledOptions =>
    completeChannel({
      ...mergeSettings(CHANNEL_SETTINGS, mergeSettings(CHANNEL_SETTINGS, file?.defaults, own), flags.settings),
      ...(isGroup({ address }) ? { template: forwards.map(toTemplate) } : { forwards }),
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

/** A channel of which nothing is left to defaults, with its canonical address: equal ones mean the same. Throws `bad-argument`. */
export function completeChannel(options: ChannelOptions & { readonly label: string }): LabelledOptions {
  const { text, traits } = parseChannel(options.address);
  const { forwards = [], template, name = null } = options;
  const { isAllowed = true, socketPath = null, parallel = 1 } = options.storage ?? {};
  return {
    ...completeSettings(CHANNEL_SETTINGS, options, traits),
    label: parseLabel(options.label),
    address: text,
    forwards: forwards.toSorted(byDirection),
    ...(template === undefined ? {} : { template: template.toSorted(byDirection) }),
    name,
    storage: isAllowed ? { isAllowed, socketPath, parallel } : { isAllowed, socketPath: null, parallel: 1 },
  };
}

/** The order in which a file has forwards: outgoing ones first. */
const byDirection = (a: { readonly direction: Direction }, b: { readonly direction: Direction }): number =>
  b.direction.localeCompare(a.direction);

function mergeChannels(file: FileLayer | null, flags: FlagLayer): FileChannel[] {
  const channels = byLabel(file?.channels ?? []);
  const given = new Set<string>();
  for (const { label, address } of flags.channels) {
    if (given.has(label))
      throw badArgument(`-c: there are two channels ${label}; tell them apart with -c LABEL=KIND:ADDRESS`);
    given.add(label);
    channels.set(label, { forwards: [], ...channels.get(label), label, address });
  }
  if (channels.size > 0) return [...channels.values()];
  throw badArgument('-c: the channel is missing; expected -c KIND:ADDRESS, such as -c unix-connect:/run/vm1.sock');
}

function mergeForwards(channels: readonly FileChannel[], { forwards, vsockPorts }: FlagLayer): FileChannel[] {
  const known = new Map(channels.map((channel) => [channel.label, isGroup(channel)]));
  const given = forwards.map(({ direction, text }) => parseForwardArgument(direction, text, known));
  return channels.map((channel) => {
    const own = given.filter(({ label }) => label === channel.label).map(({ spec }) => spec);
    const kept = channel.forwards.filter((spec) => !own.some((other) => excludes(other, spec)));
    return { ...channel, forwards: [...kept, ...own].map((spec) => withVsockPorts(spec, vsockPorts)) };
  });
}

/** Whether two forwards of a channel cannot both be: a service is offered once, an address listened on once. */
function excludes(one: ForwardSpec, other: ForwardSpec): boolean {
  if (one.direction !== other.direction) return false;
  if (one.direction === 'incoming') return one.service === other.service;
  const isPicked = 'host' in one.endpoint && one.endpoint.port === 0;
  return !isPicked && formatEndpoint(one.endpoint) === formatEndpoint(other.endpoint);
}

/** What nothing takes, and what several channels cannot share. */
function requireSense(channels: readonly FileChannel[], { vsockPorts, settings }: FlagLayer): void {
  const isTaken = channels.some(({ forwards }) => forwards.some(isHybridListener));
  if (Object.keys(vsockPorts).length > 0 && !isTaken) {
    throw badArgument('--vsock-port: there is no -o *:vsock-mux:/path that it is for');
  }
  if (channels.length > 1 && (settings.storage?.socketPath ?? null) !== null) {
    const labels = channels.map(({ label }) => label).join(', ');
    throw badArgument(
      `--storage-socket: several channels (${labels}) cannot share it; say it in a --config, for one of them`,
    );
  }
}

/** There is an end of one session only, and a group has any number of channels. */
function requireOneChannel(channels: readonly FileChannel[]): void {
  if (channels.length === 1 && !channels.some((channel) => isGroup(channel))) return;
  throw badArgument('--once: it is for one channel, not for several, or a group');
}
