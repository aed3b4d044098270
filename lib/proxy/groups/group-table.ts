/** The groups of a proxy, and how they take part in a change of its channels. */

import { VproxyError } from '../../errors.js';
import type { ChannelStatus } from '../../status/types.js';
import type { Clock } from '../../util/clock.js';
import { haveEqualValues } from '../../util/equality.js';
import { labelTaken, type ParsedOptions, writeOptions } from '../channel/channel-options.js';
import { checkGroup } from '../channel/check-channel.js';
import { ChannelGroup, type GroupHost, type GroupState } from './channel-group.js';
import { isGroup, memberLabelProblem } from './group-pattern.js';

/** The operations on their proxy that groups need. `add` and `remove` are called within `change`. */
export interface GroupTableHost extends GroupHost {
  /** Runs a change of channels after those in progress. Rejects with `shutdown` when the proxy stops. */
  change<T>(work: () => Promise<T>): Promise<T>;
}

/** A planned set of groups, and the channels that go with it. */
export interface GroupPlan {
  /** Individually configured channels, and the existing channels of the groups. */
  readonly channels: readonly ParsedOptions[];
  readonly labels: readonly string[];
  /** Activates the groups, and returns those to start. Never throws. */
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

  /** Adds a group without starting it, with its members in a predecessor. Throws `bad-argument`. */
  register(state: GroupState): void {
    const group = this.#create(state);
    this.#groups.set(group.label, group);
  }

  /** For a successor of this process. */
  get states(): GroupState[] {
    return [...this.#groups.values()].map(({ state }) => state);
  }

  get options(): ParsedOptions[] {
    return [...this.#groups.values()].map(({ options }) => options);
  }

  /** Resolves when all existing sockets have their channels. */
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

  /** A channel gained or lost its session. */
  sessionChanged(label: string, group: string | null): void {
    if (group !== null) this.#groups.get(group)?.sessionChanged(label);
  }

  /** Plans the change to `wanted`, given the current `channels`. Throws `bad-argument`. */
  plan(wanted: readonly ParsedOptions[], channels: readonly ChannelStatus[]): GroupPlan {
    const plain = wanted.filter(({ address }) => !isGroup(address));
    const groups = wanted.filter(({ address }) => isGroup(address)).map((options) => this.#keepOrCreate(options));
    const labels = [...plain, ...groups].map(({ label }) => label);
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

  #keepOrCreate(options: ParsedOptions): ChannelGroup {
    const known = this.#groups.get(options.label);
    if (known === undefined || !areSame(known.options, options)) return this.#create({ options, members: new Map() });
    // A key file or a folder that it needs may have changed.
    checkGroup(options);
    return known;
  }

  #create(state: GroupState): ChannelGroup {
    const whileActive = <T>(work: () => Promise<T>): Promise<T> =>
      this.#host.change(() => {
        if (this.#groups.get(group.label) === group) return work();
        throw new VproxyError('shutdown', `group ${group.label} is no longer active`);
      });
    const group: ChannelGroup = new ChannelGroup(
      state,
      {
        find: (label) => this.#host.find(label),
        add: (channel) => whileActive(() => this.#host.add(channel)),
        remove: (label) =>
          whileActive(async () => {
            // By now a user may have removed it, or the label may belong to another channel.
            if (this.#host.find(label)?.group === group.label) await this.#host.remove(label);
          }),
        log: (event) => this.#host.log(event),
      },
      this.#clock,
    );
    return group;
  }
}

const areSame = (one: ParsedOptions, other: ParsedOptions): boolean =>
  haveEqualValues({ ...writeOptions(one), forwards: null }, { ...writeOptions(other), forwards: null });
