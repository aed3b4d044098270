/** Changes the current channels into the wanted ones, all or nothing. */

import { isDeepStrictEqual } from 'node:util';
import { toVproxyError, VproxyError } from '../errors.js';
import type { ForwardSpec } from '../forward/spec.js';
import { changedPermissions, permittedNames } from '../services/permitted.js';
import type { ChannelChanges } from '../status/types.js';
import { haveEqualValues } from '../util/equality.js';
import {
  ADOPTED_OPTIONS,
  changedPolicies,
  labelTaken,
  type ParsedOptions,
  writeOptions,
} from './channel/channel-options.js';
import { type CheckedChannel, findSame } from './channel/check-channel.js';
import type { ProxyChannel } from './channel/proxy-channel.js';
import { changedEgress } from './egress/definitions.js';
import type { ForwardEntry } from './forward-table.js';

/** The operations on a proxy that applying channels needs. */
interface ChannelHolder {
  readonly channels: ReadonlyMap<string, ProxyChannel>;
  /** The labels that belong to groups in the wanted set. */
  readonly groupLabels: readonly string[];
  /** Aborted when the proxy stops: changes not committed by then are rolled back. */
  readonly signal: AbortSignal;
  create(channel: CheckedChannel): ProxyChannel;
  /** Creates the folders that a channel needs; returns the undo function. Throws `address-…` codes. */
  makeFolders(options: ParsedOptions): () => void;
  /** Drops `going` from the table and adds `coming`. Never throws. */
  commit(going: readonly ProxyChannel[], coming: readonly ProxyChannel[]): void;
  /** Ends a dropped channel. Never rejects. */
  end(channel: ProxyChannel): Promise<void>;
}

interface ForwardChange {
  readonly channel: ProxyChannel;
  readonly entry: ForwardEntry;
}

/**
 * Applies a set of channels in this order: creates everything new; stops the listeners to be removed, so that their addresses
 * are free; starts new listeners and opens new channels. A failure up to here rolls everything back.
 * Then commits the set within one turn, by steps that cannot fail, and ends what was removed, forwards once their streams
 * have ended. Channels and forwards added at run time by other means stay.
 */
export async function applyChannels(wanted: readonly CheckedChannel[], holder: ChannelHolder): Promise<ChannelChanges> {
  const plan = makePlan(wanted, holder);
  const preparation = new Preparation(plan);
  let adoptions: readonly (() => void)[];
  try {
    await preparation.run(holder);
    // No await between these checks and the commit, which relies on them.
    requireRunning(holder);
    adoptions = plan.adoptions.map((one) => one.channel.prepareAdoption(one.wanted));
  } catch (error) {
    throw describeRollback(error, await preparation.rollBack());
  }
  commit(plan, adoptions, holder);
  await Promise.all([...plan.going.values()].map((channel) => holder.end(channel)));
  for (const { label, supervisor } of plan.comingChannels) if (plan.going.has(label)) supervisor.startPatiently();
  return describe(plan);
}

/** The steps of a plan that may fail, and their rollback. Call `run` once; after a failure of it or of a later step, `rollBack`. */
class Preparation {
  readonly #plan: Plan;
  readonly #folders: (() => void)[] = [];
  readonly #resumptions: (() => Promise<VproxyError | null>)[] = [];
  readonly #begun: (() => Promise<void>)[] = [];

  constructor(plan: Plan) {
    this.#plan = plan;
  }

  async run(holder: ChannelHolder): Promise<void> {
    const { wanted, removedForwards, going, addedForwards, comingChannels } = this.#plan;
    for (const { options } of wanted) this.#folders.push(holder.makeFolders(options));
    for (const change of removedForwards) this.#pause(change);
    for (const channel of going.values()) {
      for (const entry of channel.forwards.active) this.#pause({ channel, entry });
      const { storage } = channel;
      if (storage === null) continue;
      this.#resumptions.push(() => storage.resume());
      storage.pause();
    }
    for (const { channel, entry } of addedForwards) {
      await channel.startForward(entry);
      this.#begun.push(() => channel.forwards.remove(entry, false));
      requireRunning(holder);
    }
    for (const channel of comingChannels) {
      this.#begun.push(() => channel.stop());
      await channel.listen();
      requireRunning(holder);
    }
    for (const channel of comingChannels) if (!going.has(channel.label)) await channel.open();
  }

  #pause({ channel, entry }: ForwardChange): void {
    this.#resumptions.push(() => channel.forwards.resume(entry));
    channel.forwards.pause(entry);
  }

  /** Resolves with the errors of listeners that cannot be resumed; these keep retrying. Never rejects. */
  async rollBack(): Promise<VproxyError[]> {
    // A failure to end one must not keep the others from ending.
    await Promise.allSettled(this.#begun.map((undo) => undo()));
    for (const undo of this.#folders) undo();
    const failures = await Promise.all(this.#resumptions.map((resume) => resume()));
    return failures.filter((failure) => failure !== null);
  }
}

function requireRunning({ signal }: ChannelHolder): void {
  if (signal.aborted) throw new VproxyError('shutdown', 'shutting down');
}

/** The error of a failed apply, with what could not be rolled back, if anything. */
function describeRollback(cause: unknown, [first, ...others]: readonly VproxyError[]): unknown {
  if (first === undefined) return cause;
  const { code, message } = toVproxyError(cause);
  const more = others.length === 0 ? '' : ` (and ${others.length} more)`;
  const text = `${message}; a previous listener could not be restored, retrying: ${first.message}${more}`;
  return new VproxyError(code, text, { cause });
}

/** A channel that stays, with its new keys, rules, egresses and permissions, and the services for which they change. */
interface Adoption {
  readonly channel: ProxyChannel;
  readonly wanted: CheckedChannel;
  readonly services: readonly string[];
  /** The egresses whose rules change. */
  readonly egresses: readonly string[];
  /** Which of its keys, announced and forwarded ports change, as a file names them. */
  readonly settings: readonly string[];
  /** Its forwards to keep. */
  readonly forwards: readonly ForwardEntry[];
}

interface Plan {
  readonly wanted: readonly CheckedChannel[];
  readonly adoptions: readonly Adoption[];
  /** The channels to drop or replace, by label. */
  readonly going: ReadonlyMap<string, ProxyChannel>;
  readonly comingChannels: readonly ProxyChannel[];
  readonly addedForwards: readonly ForwardChange[];
  readonly removedForwards: readonly ForwardChange[];
}

function makePlan(wanted: readonly CheckedChannel[], holder: ChannelHolder): Plan {
  const comingChannels: ProxyChannel[] = [];
  const adoptions: Adoption[] = [];
  const addedForwards: ForwardChange[] = [];
  const removedForwards: ForwardChange[] = [];
  const kept = new Set<ProxyChannel>();
  const labels = new Set<string>();
  for (const one of wanted) {
    const { label, options } = one;
    if (labels.has(label)) throw labelTaken(label);
    labels.add(label);
    const channel = holder.channels.get(label);
    if (channel === undefined || mustBeReplaced(channel.options, options)) {
      comingChannels.push(holder.create(one));
      continue;
    }
    kept.add(channel);
    const left = new Set(channel.forwards.active);
    const forwards: ForwardEntry[] = [];
    for (const spec of options.forwards ?? []) {
      const known = takeEqual(left, spec);
      if (known === undefined) addedForwards.push({ channel, entry: channel.forwards.create(spec) });
      else forwards.push(known);
    }
    adoptions.push({
      channel,
      wanted: one,
      services: changedServices(channel.options, options),
      egresses: changedEgress(channel.options.egress, options.egress),
      settings: changedSettings(channel, one),
      forwards,
    });
    for (const entry of left) if (entry.isDeclared) removedForwards.push({ channel, entry });
  }
  const coming = new Set(comingChannels.map(({ label }) => label));
  const going = new Map(
    [...holder.channels].filter(([label, channel]) => !kept.has(channel) && (channel.isDeclared || coming.has(label))),
  );
  const staying = [...holder.channels.values()].filter(({ label }) => !going.has(label));
  const taken = staying.find(({ label }) => holder.groupLabels.includes(label));
  if (taken !== undefined) throw labelTaken(taken.label);
  requireFreePlaces(comingChannels, staying);
  return { wanted, adoptions, going, comingChannels, addedForwards, removedForwards };
}

/** Removes the first forward of this spec: usually the first of all, as a file keeps its order. */
function takeEqual(left: Set<ForwardEntry>, spec: ForwardSpec): ForwardEntry | undefined {
  for (const entry of left) {
    if (!haveEqualValues(entry.forward.spec, spec)) continue;
    left.delete(entry);
    return entry;
  }
  return undefined;
}

/** Throws `bad-argument` if two of `coming` are the same channel, or one of them is the same as one of `staying`. */
export function requireFreePlaces(coming: readonly ProxyChannel[], staying: Iterable<ProxyChannel>): void {
  const [same] = findSame(coming, staying).values();
  if (same !== undefined) throw same;
}

/** Commits a prepared plan: nothing here waits or can fail. */
function commit(plan: Plan, adoptions: readonly (() => void)[], holder: ChannelHolder): void {
  for (const adopt of adoptions) adopt();
  for (const { label, egresses } of plan.comingChannels) {
    const replaced = plan.going.get(label);
    if (replaced !== undefined) egresses.inherit(replaced.egresses);
  }
  for (const { channel, forwards } of plan.adoptions) {
    channel.isDeclared = true;
    for (const entry of forwards) entry.isDeclared = true;
  }
  for (const { channel, entry } of plan.removedForwards) void channel.forwards.remove(entry, true);
  holder.commit([...plan.going.values()], plan.comingChannels);
}

/** Also true if a new forward takes the name of a built-in service that the channel serves. */
function mustBeReplaced(options: ParsedOptions, wanted: ParsedOptions): boolean {
  const own = permittedNames(options);
  const isTaken = (wanted.forwards ?? []).some(
    ({ direction, service }) => direction === 'incoming' && own.includes(service),
  );
  return isTaken || !haveEqualValues(fixedOptions(options), fixedOptions(wanted));
}

/** The options that cannot change while a channel runs: those that it does not adopt, and whether it has a key at all. */
function fixedOptions(options: ParsedOptions): object {
  const adopted = Object.fromEntries(ADOPTED_OPTIONS.map((option) => [option, null]));
  return { ...writeOptions(options), ...adopted, hasKeys: (options.keyFiles ?? []).length > 0 };
}

const changedServices = (one: ParsedOptions, other: ParsedOptions): string[] => [
  ...new Set([...changedPolicies(one.policies, other.policies), ...changedPermissions(one, other)]),
];

function changedSettings(channel: ProxyChannel, { keys, options }: CheckedChannel): string[] {
  const { announcePorts, forwardPorts } = channel.options;
  const ids = (of: CheckedChannel['keys']): string[] => of.map(({ id }) => id);
  return Object.entries({
    keys: [ids(channel.checked.keys), ids(keys)],
    'announce-ports': [announcePorts ?? null, options.announcePorts ?? null],
    'forward-ports': [forwardPorts ?? null, options.forwardPorts ?? null],
  }).flatMap(([name, [one, other]]) => (isDeepStrictEqual(one, other) ? [] : [name]));
}

function describe(plan: Plan): ChannelChanges {
  const texts = (changes: readonly ForwardChange[]): string[] =>
    changes.map(({ channel, entry: { text, forward } }) => {
      return `${forward.spec.direction === 'outgoing' ? '-o' : '-i'} ${channel.label}/${text}`;
    });
  const { going } = plan;
  const coming = plan.comingChannels.map(({ label }) => label);
  return {
    addedChannels: coming.filter((label) => !going.has(label)),
    removedChannels: [...going.keys()].filter((label) => !coming.includes(label)),
    replacedChannels: coming.filter((label) => going.has(label)),
    addedForwards: texts(plan.addedForwards),
    removedForwards: texts(plan.removedForwards),
    changedPolicies: plan.adoptions.flatMap(({ channel, services }) =>
      services.map((service) => `${channel.label}/${service}`),
    ),
    changedEgress: plan.adoptions.flatMap(({ channel, egresses }) =>
      egresses.map((name) => `${channel.label}/${name}`),
    ),
    changedSettings: plan.adoptions.flatMap(({ channel, settings }) =>
      settings.map((name) => `${channel.label}/${name}`),
    ),
  };
}
