/** One configuration of a file and a command line, which wins. */
import { parseChannel } from '../channel/address/address.js';
import { VproxyError } from '../errors.js';
import type { Direction } from '../forward/endpoint-kind.js';
import { type ForwardSpec, formatEndpoint } from '../forward/spec.js';
import { type ChannelOptions, DEFAULT_WAIT_MS, parseLabel } from '../proxy/channel-options.js';
import { isGroup } from '../proxy/group-pattern.js';
import { isHybridListener, parseForwardArgument, withVsockPorts } from './arguments.js';
import {
  type Configuration,
  type FileChannel,
  type FileLayer,
  type FlagLayer,
  mergeServiceRules,
  toTemplate,
} from './configuration.js';

/** The order in which a file has them: outgoing ones first. */
const byDirection = (a: { readonly direction: Direction }, b: { readonly direction: Direction }): number =>
  b.direction.localeCompare(a.direction);

type LabelledOptions = Configuration['channels'][number];

/**
 * What is in force with a file (or without: null) and a command line. A channel of the command line gives the one of its
 * label another address, or is added; its forwards are added, and take the place of those that they cannot stand beside.
 * Throws `bad-argument`.
 */
export function mergeConfiguration(file: FileLayer | null, flags: FlagLayer): Configuration {
  const name = flags.name ?? file?.name;
  const control = flags.control ?? file?.control;
  const metrics = flags.metrics ?? file?.metrics;
  const audit = flags.audit ?? file?.audit;
  const channels = mergeForwards(mergeChannels(file, flags), flags);
  requireSense(channels, flags);
  if (flags.once ?? file?.once ?? false) requireOneChannel(channels);
  const channelDefaults = {
    name: name ?? null,
    ...file?.defaults,
    ...flags.settings,
    storage: { ...file?.defaults.storage, ...flags.settings.storage },
  };
  return {
    ...(name === undefined ? {} : { name }),
    ...(control === undefined ? {} : { control }),
    ...(metrics === undefined ? {} : { metrics }),
    ...(audit === undefined ? {} : { audit }),
    once: flags.once ?? file?.once ?? false,
    logLevel: flags.logLevel ?? file?.logLevel ?? 'info',
    logFormat: flags.logFormat ?? file?.logFormat ?? 'text',
    logDetails: flags.logDetails ?? file?.logDetails ?? false,
    channelDefaults,
    channels: channels.map(({ forwards, ...channel }) =>
      completeChannel({
        name: name ?? null,
        ...file?.defaults,
        ...channel,
        ...flags.settings,
        ...(isGroup(channel) ? { template: forwards.map(toTemplate) } : { forwards }),
        policies: mergeServiceRules(file?.defaults.policies, channel.policies),
        storage: { ...file?.defaults.storage, ...channel.storage, ...flags.settings.storage },
      }),
    ),
  };
}

/** A channel of which nothing is left to defaults, with its canonical address: equal ones mean the same. Throws `bad-argument`. */
export function completeChannel(options: ChannelOptions & { readonly label: string }): LabelledOptions {
  const { text, traits } = parseChannel(options.address);
  const { forwards = [], template } = options;
  const { isAllowed = true, socketPath = null, parallel = 1 } = options.storage ?? {};
  return {
    label: parseLabel(options.label),
    address: text,
    forwards: forwards.toSorted(byDirection),
    ...(template === undefined ? {} : { template: template.toSorted(byDirection) }),
    name: options.name ?? null,
    waitMs: options.waitMs ?? DEFAULT_WAIT_MS,
    deadAfterMs: options.deadAfterMs === undefined ? traits.deadAfterMs : options.deadAfterMs,
    insecure: options.insecure ?? false,
    keyFiles: options.keyFiles ?? [],
    peerAddress: options.peerAddress ?? false,
    policies: options.policies ?? {},
    exec: options.exec ?? null,
    copy: options.copy ?? null,
    storage: isAllowed ? { isAllowed, socketPath, parallel } : { isAllowed, socketPath: null, parallel: 1 },
  };
}

function mergeChannels(file: FileLayer | null, flags: FlagLayer): FileChannel[] {
  const channels = new Map((file?.channels ?? []).map((channel) => [channel.label, channel]));
  const given = new Set<string>();
  for (const { label, address } of flags.channels) {
    if (given.has(label)) throw bad(`-c: there are two channels ${label}; tell them apart with -c LABEL=KIND:ADDRESS`);
    given.add(label);
    channels.set(label, { forwards: [], ...channels.get(label), label, address });
  }
  if (channels.size > 0) return [...channels.values()];
  throw bad('-c: the channel is missing; expected -c KIND:ADDRESS, such as -c unix-connect:/run/vm1.sock');
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
  const isPicked = one.endpoint.kind === 'tcp' && one.endpoint.port === 0;
  return !isPicked && formatEndpoint(one.endpoint) === formatEndpoint(other.endpoint);
}

/** What nothing takes, and what several channels cannot share. */
function requireSense(channels: readonly FileChannel[], { vsockPorts, settings }: FlagLayer): void {
  const isTaken = channels.some(({ forwards }) => forwards.some(isHybridListener));
  if (Object.keys(vsockPorts).length > 0 && !isTaken) {
    throw bad('--vsock-port: there is no -o *:vsock-mux:/path that it is for');
  }
  if (channels.length > 1 && (settings.storage?.socketPath ?? null) !== null) {
    const labels = channels.map(({ label }) => label).join(', ');
    throw bad(`--storage-socket: several channels (${labels}) cannot share it; say it in a --config, for one of them`);
  }
}

/** There is an end of one session only, and a group has any number of channels. */
function requireOneChannel(channels: readonly FileChannel[]): void {
  if (channels.length === 1 && !channels.some((channel) => isGroup(channel))) return;
  throw bad('--once: it is for one channel, not for several, or a group');
}

function bad(what: string): VproxyError {
  return new VproxyError('bad-argument', what);
}
