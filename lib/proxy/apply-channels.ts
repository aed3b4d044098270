/** From the channels that there are to those that are wanted, all or nothing. */
import { type ForwardSpec, formatForwardSpec } from '../forward/spec.js';
import { type ChannelOptions, labelTaken } from './channel-options.js';
import { changedPolicies } from './channel-policy.js';
import type { ForwardEntry } from './forward-table.js';
import { changedPermissions, permittedNames } from './permitted-services.js';
import type { ProxyChannel } from './proxy-channel.js';

/** What was done: labels of channels, and texts of forwards behind the label of their channel. */
export interface ChannelChanges {
  /** New ones. */
  readonly addedChannels: readonly string[];
  /** Those that went. */
  readonly removedChannels: readonly string[];
  /** Begun anew, because their address or their settings are other ones. */
  readonly replacedChannels: readonly string[];
  /** New ones. */
  readonly addedForwards: readonly string[];
  /** Those that went, or go when their streams have ended. */
  readonly removedForwards: readonly string[];
  /** Services whose rule, or permission, is another one, behind the label of their channel. */
  readonly changedPolicies: readonly string[];
}

/** What is done to a proxy. */
export interface ChannelHolder {
  readonly channels: ReadonlyMap<string, ProxyChannel>;
  /** Throws `bad-argument`. */
  create(options: ChannelOptions): ProxyChannel;
  hold(channel: ProxyChannel): void;
  end(channel: ProxyChannel): Promise<void>;
}

/** A forward that comes or goes, with its channel. */
interface ForwardChange {
  readonly channel: ProxyChannel;
  readonly entry: ForwardEntry;
}

/**
 * In order: everything new is made, which finds what is not valid; what goes stops listening, so that its addresses are
 * free; what comes listens. Until then all can be taken back. Then what goes is ended, forwards when their streams have
 * ended, and new channels are opened. What was added while it ran, and not by this function, stays as it is.
 */
export async function applyChannels(wanted: readonly ChannelOptions[], holder: ChannelHolder): Promise<ChannelChanges> {
  const plan = makePlan(wanted, holder);
  const goingForwards = [
    ...plan.removedForwards,
    ...plan.goingChannels.flatMap((channel) => channel.forwards.active.map((entry) => ({ channel, entry }))),
  ];
  for (const { entry } of goingForwards) entry.forward.pause();
  const begun: (() => Promise<void>)[] = [];
  try {
    for (const { channel, entry } of plan.addedForwards) {
      await channel.forwards.start(entry);
      begun.push(() => channel.forwards.remove(entry, false));
    }
    for (const channel of plan.comingChannels) {
      begun.push(() => channel.stop());
      await channel.listen();
    }
    for (const channel of plan.comingChannels) {
      if (!isReplacement(channel, plan)) await channel.open();
    }
  } catch (error) {
    for (const undo of begun.reverse()) await undo();
    for (const { entry } of goingForwards) await entry.forward.start();
    throw error;
  }
  await commit(plan, holder);
  return describe(plan);
}

/** A channel that stays, what its keys, rules and permissions are to be, and for which services these are other ones. */
interface Adoption {
  readonly channel: ProxyChannel;
  readonly made: ProxyChannel;
  readonly services: readonly string[];
}

interface Plan {
  readonly adoptions: readonly Adoption[];
  readonly goingChannels: readonly ProxyChannel[];
  readonly comingChannels: readonly ProxyChannel[];
  readonly addedForwards: readonly ForwardChange[];
  readonly removedForwards: readonly ForwardChange[];
}

function makePlan(wanted: readonly ChannelOptions[], holder: ChannelHolder): Plan {
  const comingChannels: ProxyChannel[] = [];
  const adoptions: Adoption[] = [];
  const addedForwards: ForwardChange[] = [];
  const removedForwards: ForwardChange[] = [];
  const kept = new Set<ProxyChannel>();
  const labels = new Set<string>();
  for (const options of wanted) {
    // Also checks what is not valid in a channel that stays.
    const made = holder.create(options);
    if (labels.has(made.label)) throw labelTaken(made.label);
    labels.add(made.label);
    const channel = holder.channels.get(made.label);
    if (channel === undefined || mustBeReplaced(channel, options)) {
      comingChannels.push(made);
      continue;
    }
    channel.isDeclared = true;
    kept.add(channel);
    adoptions.push({ channel, made, services: changedServices(channel.options, options) });
    const left = new Map(channel.forwards.active.map((entry) => [specText(entry.forward.spec), entry]));
    for (const spec of options.forwards ?? []) {
      const key = specText(spec);
      const known = left.get(key);
      left.delete(key);
      if (known === undefined) addedForwards.push({ channel, entry: channel.forwards.create(spec) });
      else known.isDeclared = true;
    }
    for (const entry of left.values()) if (entry.isDeclared) removedForwards.push({ channel, entry });
  }
  const coming = new Set(comingChannels.map(({ label }) => label));
  const goingChannels = [...holder.channels.values()].filter(
    (channel) => !kept.has(channel) && (channel.isDeclared || coming.has(channel.label)),
  );
  return { adoptions, goingChannels, comingChannels, addedForwards, removedForwards };
}

async function commit(plan: Plan, holder: ChannelHolder): Promise<void> {
  for (const { channel, made } of plan.adoptions) channel.adopt(made);
  for (const { channel, entry } of plan.removedForwards) void channel.forwards.remove(entry, true);
  for (const channel of plan.goingChannels) await holder.end(channel);
  for (const channel of plan.comingChannels) holder.hold(channel);
  for (const channel of plan.comingChannels) if (isReplacement(channel, plan)) channel.openPatiently();
}

const isReplacement = (channel: ProxyChannel, { goingChannels }: Plan): boolean =>
  goingChannels.some(({ label }) => label === channel.label);

/** Also where a forward gets the name of a service that the channel serves by itself until then. */
function mustBeReplaced({ options }: ProxyChannel, wanted: ChannelOptions): boolean {
  const own = permittedNames(options);
  const isTaken = (wanted.forwards ?? []).some(
    ({ direction, service }) => direction === 'incoming' && own.includes(service),
  );
  return isTaken || settingsText(options) !== settingsText(wanted);
}

/** Everything of a channel for which it has to be begun anew: not its forwards, rules and permissions, nor which keys it has, if any. */
function settingsText(options: ChannelOptions): string {
  const hasKeys = (options.keyFiles ?? []).length > 0;
  const adopted = { forwards: null, policies: null, exec: null, copy: null, keyFiles: hasKeys };
  return JSON.stringify(Object.entries({ ...options, ...adopted }).sort());
}

const changedServices = (one: ChannelOptions, other: ChannelOptions): string[] => [
  ...new Set([...changedPolicies(one.policies, other.policies), ...changedPermissions(one, other)]),
];

const specText = (spec: ForwardSpec): string => `${spec.direction} ${formatForwardSpec(spec)}`;

function describe(plan: Plan): ChannelChanges {
  const labels = (channels: readonly ProxyChannel[]): string[] => channels.map(({ label }) => label);
  const texts = (changes: readonly ForwardChange[]): string[] =>
    changes.map(({ channel, entry }) => {
      const { spec } = entry.forward;
      return `${spec.direction === 'outgoing' ? '-o' : '-i'} ${channel.label}/${formatForwardSpec(spec)}`;
    });
  const going = labels(plan.goingChannels);
  const coming = labels(plan.comingChannels);
  return {
    addedChannels: coming.filter((label) => !going.includes(label)),
    removedChannels: going.filter((label) => !coming.includes(label)),
    replacedChannels: coming.filter((label) => going.includes(label)),
    addedForwards: texts(plan.addedForwards),
    removedForwards: texts(plan.removedForwards),
    changedPolicies: plan.adoptions.flatMap(({ channel, services }) =>
      services.map((service) => `${channel.label}/${service}`),
    ),
  };
}
