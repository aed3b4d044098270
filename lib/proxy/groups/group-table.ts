/** The groups of a proxy, and what they mean when its channels are made others. */

import { VproxyError } from '../../errors.js';
import type { ChannelStatus } from '../../status/types.js';
import type { Clock } from '../../util/clock.js';
import { haveEqualValues } from '../../util/equality.js';
import { type ChannelOptions, DEFAULT_LABEL, labelTaken } from '../channel-options.js';
import { ChannelGroup, type GroupHost, type GroupState } from './channel-group.js';
import { isGroup, memberLabelProblem } from './group-pattern.js';

/** What groups do to their proxy. `add` and `remove` are called within `change`. */
export interface GroupTableHost extends GroupHost {
  /** Runs a change of channels after those that are under way. Rejects with `shutdown` when the proxy ends. */
  change<T>(work: () => Promise<T>): Promise<T>;
}

/** Other groups, and the channels that belong to them. */
export interface GroupPlan {
  /** Channels that were asked for themselves, and those of sockets that had one already. */
  readonly channels: readonly ChannelOptions[];
  /** The labels of the groups. */
  readonly labels: readonly string[];
  /** Puts the groups in force, and gives those that are to be started. Never throws. */
  commit(): ChannelGroup[];
}

export class GroupTable {
  readonly #host: GroupTableHost;
  readonly #clock: Clock;
  #groups = new Map<string, ChannelGroup>();

  constructor(host: GroupTableHost, clock: Clock) {
    this.#host = host;
    this.#clock = clock;
  }

  get isEmpty(): boolean {
    return this.#groups.size === 0;
  }

  /** Whether a socket that a group finds may get this label. */
  canHave(label: string): boolean {
    return !this.isEmpty && memberLabelProblem(label) === null;
  }

  has(label: string): boolean {
    return this.#groups.has(label);
  }

  /** Takes a group up that is not started yet, with the members that it had in a predecessor. Throws `bad-argument`. */
  hold(state: GroupState): void {
    const group = this.#create(state);
    this.#groups.set(group.label, group);
  }

  /** For a successor of this process. */
  get states(): GroupState[] {
    return [...this.#groups.values()].map(({ state }) => state);
  }

  /** Resolved when all sockets that are there have their channels. */
  async start(): Promise<void> {
    await Promise.all([...this.#groups.values()].map((group) => group.start()));
  }

  stop(): void {
    for (const group of this.#groups.values()) group.stop();
  }

  /** Reads the folders soon. */
  look(): void {
    for (const group of this.#groups.values()) group.look();
  }

  /** A channel has a session, or has it no more. */
  sessionChanged(label: string, group: string | null): void {
    if (group !== null) this.#groups.get(group)?.sessionChanged(label);
  }

  /** What `wanted` means while there are `channels`. Throws `bad-argument`. */
  plan(wanted: readonly ChannelOptions[], channels: readonly ChannelStatus[]): GroupPlan {
    const plain = wanted.filter((options) => !isGroup(options));
    const groups = wanted.filter(isGroup).map((options) => this.#keepOrCreate(options));
    const labels = [...plain.map(({ label = DEFAULT_LABEL }) => label), ...groups.map(({ label }) => label)];
    const twice = labels.find((label, index) => labels.indexOf(label) !== index);
    if (twice !== undefined) throw labelTaken(twice);
    const members = groups.flatMap((group) => {
      const old = this.#groups.get(group.label);
      if (old === undefined || old.pattern.path !== group.pattern.path) return [];
      const own = channels.filter((channel) => channel.group === group.label && !labels.includes(channel.label));
      return own.map(({ label }) => ({ group, label }));
    });
    return {
      channels: [...plain, ...members.map(({ group, label }) => group.optionsFor(label))],
      labels: groups.map(({ label }) => label),
      commit: () => {
        const kept = new Set([...this.#groups.values()].filter((group) => groups.includes(group)));
        for (const group of this.#groups.values()) if (!kept.has(group)) group.stop();
        for (const { group, label } of members) if (!kept.has(group)) group.adopt(label);
        this.#groups = new Map(groups.map((group) => [group.label, group]));
        return groups.filter((group) => !kept.has(group));
      },
    };
  }

  #keepOrCreate(options: ChannelOptions): ChannelGroup {
    const made = this.#create({ options, members: new Map() });
    const known = this.#groups.get(made.label);
    return known !== undefined && areSame(known.state.options, options) ? known : made;
  }

  #create(state: GroupState): ChannelGroup {
    const whileInForce = <T>(work: () => Promise<T>): Promise<T> =>
      this.#host.change(() => {
        if (this.#groups.get(group.label) === group) return work();
        throw new VproxyError('shutdown', `the group ${group.label} is not in force any more`);
      });
    const group: ChannelGroup = new ChannelGroup(
      state,
      {
        find: (label) => this.#host.find(label),
        add: (channel) => whileInForce(() => this.#host.add(channel)),
        remove: (label) =>
          whileInForce(async () => {
            // By now it may have been removed by hand, or the label be another's.
            if (this.#host.find(label)?.group === group.label) await this.#host.remove(label);
          }),
        log: (event) => this.#host.log(event),
      },
      this.#clock,
    );
    return group;
  }
}

const areSame = (one: ChannelOptions, other: ChannelOptions): boolean =>
  haveEqualValues({ ...one, forwards: null }, { ...other, forwards: null });
