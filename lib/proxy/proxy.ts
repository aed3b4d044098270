/** A running vproxy: its channels, and what is done to all of them. */

import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { EventEmitter } from 'eventemitter3';
import { toVproxyError, VproxyError } from '../errors.js';
import { type LogEvent, makeEvent } from '../events.js';
import type { ForwardSpec } from '../forward/spec.js';
import type { MuxStream } from '../session/mux-stream.js';
import { PROCESS_BUDGET_BYTES, PROCESS_KEPT_BYTES } from '../session/settings.js';
import type {
  ChannelChanges,
  ChannelStatus,
  EgressStatus,
  EgressTest,
  ForwardStatus,
  PortStatus,
  ServiceStatus,
  StreamStatus,
} from '../status/types.js';
import type { KeepDescriptor } from '../system/descriptors.js';
import { Budget, FairBudget } from '../util/bounds.js';
import { type Clock, systemClock } from '../util/clock.js';
import { deferred } from '../util/concurrency.js';
import { escapeText } from '../util/escape.js';
import { chooseChannel } from '../util/labels.js';
import { applyChannels, requireFreePlaces } from './apply.js';
import { requireEgress } from './channel-egress.js';
import { type ChannelOptions, DEFAULT_LABEL, labelTaken } from './channel-options.js';
import { ForwardAddresses } from './forward-table.js';
import { type ChannelGroup, type GroupState, OwnFolders } from './groups/channel-group.js';
import { isGroup } from './groups/group-pattern.js';
import { GroupTable } from './groups/group-table.js';
import { jsonLineBytes } from './log-limit.js';
import { acceptedStream } from './peer.js';
import { ProxyChannel, type ProxyChannelContext, type ProxyChannelState, type Restored } from './proxy-channel.js';
import type { FindRival } from './rival.js';
import { parseEgressDestination } from './test-egress.js';

/** What a proxy is made of. */
export interface ProxyOptions {
  /** Channels, and groups of channels. */
  readonly channels: readonly ChannelOptions[];
  /** Program and version, told to the peers. */
  readonly agent: string;
  /** Default `systemClock`. */
  readonly clock?: Clock;
  /** How many bytes an event takes in the log, which is limited by that. Default: those of its JSON. */
  readonly lineBytes?: (event: LogEvent) => number;
  /**
   * Looks for another process of this machine that has a session on the same channel, or its device open: asked when another
   * connection took a channel's place, a device is busy, or nobody answers. Default: nobody is found.
   *
   * @internal
   */
  readonly findRival?: FindRival;
  /**
   * What a predecessor of this process had, instead of `channels`: `goOn` takes the place of `start`. Default: nothing.
   *
   * @internal
   */
  readonly restored?: Restored<ProxyState>;
}

/** A proxy, for a successor of this process: plain data, of a form that only the same version of it understands. */
export interface ProxyState {
  readonly instance: string;
  readonly forwardCount: number;
  readonly channels: readonly ProxyChannelState[];
  readonly groups: readonly GroupState[];
  /** By the labels of channels, the paths of folders that were made for them. */
  readonly folders: Map<string, Set<string>>;
}

/** The events of a `Proxy`. */
export interface ProxyEvents {
  /** What people should know. */
  log: [event: LogEvent];
  /** For an audit log: who opened what, and what became of it. What came too fast is in it as `log-limited`, with its number. */
  audit: [event: LogEvent];
  /**
   * A session of a channel is over, and no other took its place; or a channel that this side opens can have none, because
   * the two sides do not let each other in or speak no common version. The proxy goes on trying.
   */
  ended: [label: string, reason: VproxyError];
  /**
   * A channel has a session or has it no longer, its peer offers something else, it waits for something else, or it can
   * never work: `listChannels` says how the channels are.
   */
  changed: [];
  /** An outgoing forward listens. */
  listening: [forward: ForwardStatus];
  /** No channel is left that could ever work: stop the proxy, and end with the exit status of the code. */
  fatal: [reason: VproxyError];
}

/** How a forward or a channel goes. */
export interface RemoveOptions {
  /** Whether streams that are open may finish. Default true. */
  readonly isDraining?: boolean;
}

/** How long a ping waits by default, in milliseconds. */
const PING_TIMEOUT_MS = 5000;

/** Composition and life of all layers. `start` once, then `stop` once; what is between may change while it runs. */
export class Proxy extends EventEmitter<ProxyEvents> {
  readonly #channels = new Map<string, ProxyChannel>();
  readonly #groups: GroupTable;
  readonly #folders: OwnFolders;
  readonly #context: ProxyChannelContext;
  readonly #stopping = new AbortController();
  /** Changes of channels and forwards, one at a time. */
  #changes: Promise<unknown> = Promise.resolve();
  /** Those that are under way, or wait, also for streams to end. */
  #changeCount = 0;
  #forwardCount: number;

  /** Throws `bad-argument` for a channel or a forward that is not valid or not allowed. */
  constructor({
    channels,
    agent,
    clock = systemClock,
    lineBytes = jsonLineBytes,
    findRival = () => Promise.resolve(null),
    restored,
  }: ProxyOptions) {
    super();
    const state = restored?.state;
    this.#forwardCount = state?.forwardCount ?? 0;
    // As many as wait for a session: that is no leak, of which Node would warn on stderr.
    setMaxListeners(0, this.#stopping.signal);
    this.#context = {
      identity: {
        instance: state?.instance ?? randomBytes(16).toString('hex'),
        agent,
        budget: new Budget(PROCESS_BUDGET_BYTES),
        keptBudget: new FairBudget(PROCESS_KEPT_BYTES),
      },
      clock,
      nextForwardId: () => `f${(this.#forwardCount += 1)}`,
      addresses: new ForwardAddresses(),
      findRival,
      makeFolders: (label, forwards) => void this.#folders.make(label, forwards),
      lineBytes,
      log: (event) => this.emit('log', event),
      audit: (event) => this.emit('audit', event),
      isAuditing: () => this.listenerCount('audit') > 0,
      onEnded: ({ label }, reason) => this.emit('ended', label, reason),
      onChanged: ({ label, options }) => {
        this.#groups.sessionChanged(label, options.group ?? null);
        this.emit('changed');
      },
      onListening: (forward) => this.emit('listening', forward),
      onFatal: (channel, reason) => this.#fail(channel, reason),
    };
    this.#groups = new GroupTable(
      {
        find: (label) => this.#channels.get(label)?.status() ?? null,
        change: (work) => this.#change(work),
        add: (options) => this.#begin(this.#create(options)),
        remove: (label) => this.#end(this.#find(label)),
        log: this.#context.log,
      },
      clock,
    );
    this.#folders = new OwnFolders(state?.folders);
    if (restored === undefined) this.#holdFirst(channels);
    else this.#restore(restored);
  }

  /** Makes the channels and groups that it begins with. */
  #holdFirst(channels: readonly ChannelOptions[]): void {
    for (const options of channels) {
      if (isGroup(options)) this.#requireFree(options.label ?? DEFAULT_LABEL);
      if (isGroup(options)) this.#groups.hold({ options, members: new Map() });
      else this.#hold(this.#create(options));
    }
  }

  #restore({ state, take }: Restored<ProxyState>): void {
    for (const group of state.groups) this.#groups.hold(group);
    for (const channel of state.channels)
      this.#hold(new ProxyChannel(channel.options, this.#context, { state: channel, take }));
  }

  /**
   * Listens for the outgoing forwards and the storage calls, then opens the channels, which may take for ever, and
   * those of the sockets that groups find. Rejects with `address-…` codes, and nothing listens any more then. Stopped
   * meanwhile, it ends without having started.
   */
  async start(): Promise<void> {
    try {
      const channels = [...this.#channels.values()];
      for (const channel of channels) await channel.listen();
      for (const channel of channels) await channel.open();
      await this.#groups.start();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  /** Tells the peers, closes everything, and comes back within a second. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#groups.stop();
    // A change that is under way takes back what no channel has yet.
    await Promise.all([...[...this.#channels.values()].map((channel) => channel.stop()), this.#changes]);
    this.#folders.removeAll();
  }

  // ---- for a successor of this process ----------------------------------------------------------------------------

  /**
   * What cannot be handed over now, each as a line for people: most of it ends by itself.
   *
   * @internal
   */
  obstacles(): string[] {
    const changes = this.#changeCount === 0 ? [] : ['channels or forwards are being changed'];
    return [...changes, ...[...this.#channels.values()].flatMap((channel) => channel.obstacles())];
  }

  /**
   * Resets streams that cannot be handed over and that only a peer can end; returns a human-readable line for each.
   *
   * @internal
   */
  cutObstacles(): string[] {
    return [...this.#channels.values()].flatMap((channel) => channel.cutObstacles());
  }

  /**
   * All that a successor goes on with. Nothing is changed by it, and in this turn nothing must be. `keep` numbers the descriptors.
   *
   * @internal
   */
  capture(keep: KeepDescriptor): ProxyState {
    return {
      instance: this.#context.identity.instance,
      forwardCount: this.#forwardCount,
      channels: [...this.#channels.values()].map((channel) => channel.capture(keep)),
      groups: this.#groups.states,
      folders: this.#folders.state,
    };
  }

  /**
   * In the place of `start` where it was restored: reads and writes, which nothing does before. Resolved when groups have looked at
   * their folders.
   *
   * @internal
   */
  async goOn(): Promise<void> {
    for (const channel of this.#channels.values()) channel.goOn();
    await this.#groups.start();
  }

  /** Opens no more streams; resolved when those that are open have ended, or after 30 s. `stop` is to follow. */
  async drain(): Promise<void> {
    await Promise.all([...this.#channels.values()].map((channel) => channel.drain('this side is ending')));
  }

  /** Reads the files of all keys again. Gives what is wrong with them; a channel with such a file keeps the keys that it has. */
  reloadKeys(): VproxyError[] {
    const problems = new Map<string, VproxyError>();
    for (const channel of this.#channels.values()) {
      try {
        channel.reloadKeys();
      } catch (error) {
        const problem = toVproxyError(error);
        problems.set(problem.message, problem);
      }
    }
    return [...problems.values()];
  }

  /** Makes the next attempt to open each channel now, and looks for the sockets of groups. */
  retryNow(): void {
    this.#groups.look();
    for (const channel of this.#channels.values()) channel.supervisor.retryNow();
  }

  // ---- channels ---------------------------------------------------------------------------------------------------

  /** Adds a channel, not a group. Rejects with `bad-argument` or `address-…` codes, and changes nothing then. */
  addChannel(options: ChannelOptions): Promise<ChannelStatus> {
    return this.#change(async () => {
      const channel = this.#create(options);
      channel.isDeclared = false;
      await this.#begin(channel);
      return channel.status();
    });
  }

  /**
   * Removes a channel with its forwards, behind the changes that are under way; while it drains there may be others. Rejects
   * with `not-found`.
   */
  async removeChannel(label: string, { isDraining = true }: RemoveOptions = {}): Promise<void> {
    const channel = await this.#change(() => Promise.resolve(this.#find(label)));
    if (isDraining) await this.#count(channel.drain('the channel was removed'));
    await this.#change(async () => {
      // There may be another one in its place by now.
      if (this.#channels.get(label) === channel) await this.#end(channel);
    });
  }

  /**
   * Makes the channels, groups and forwards those that are given: adds and removes what differs; what is the same keeps
   * its sessions and streams. Rejects with `bad-argument` or `address-…` codes, and nothing has changed then.
   */
  async apply(channels: readonly ChannelOptions[]): Promise<ChannelChanges> {
    const [changes, newGroups] = await this.#change(async () => {
      const plan = this.#groups.plan(channels, this.listChannels());
      let begun: ChannelGroup[] = [];
      const done = await applyChannels(plan.channels, {
        channels: this.#channels,
        groupLabels: plan.labels,
        signal: this.#stopping.signal,
        create: (options) => this.#create(options),
        makeFolders: (options) => this.#makeFolders(options),
        commit: (going, coming) => {
          for (const { label } of going) this.#channels.delete(label);
          for (const channel of coming) this.#channels.set(channel.label, channel);
          begun = plan.commit();
        },
        end: (channel) => this.#end(channel).catch((error: unknown) => this.#logFailure(channel, toVproxyError(error))),
      });
      return [done, begun] as const;
    });
    await Promise.all(newGroups.map((group) => group.start()));
    return changes;
  }

  // ---- forwards ---------------------------------------------------------------------------------------------------

  /** Adds a forward to a channel, which need not be named where there is one only. Rejects as `addChannel` does. */
  addForward(spec: ForwardSpec, label?: string): Promise<ForwardStatus> {
    return this.#change(async () => {
      const channel = this.#find(label);
      requireEgress(spec, Object.keys(channel.options.egress ?? {}));
      const entry = channel.forwards.create(spec, false);
      await channel.startForward(entry);
      return channel.forwards.describe(entry);
    });
  }

  /** Removes a forward; resolved when it is gone. Rejects with `not-found`. */
  async removeForward(id: string, { isDraining = true }: RemoveOptions = {}): Promise<void> {
    for (const { forwards } of this.#channels.values()) {
      const entry = forwards.find(id);
      if (entry !== null) return forwards.remove(entry, isDraining);
    }
    throw new VproxyError('not-found', `there is no forward ${escapeText(id, 80)}`);
  }

  // ---- streams ----------------------------------------------------------------------------------------------------

  /**
   * Offers a service of this program on a channel, or on all that there are: each stream that a peer opens to it is
   * accepted and handed to `handle`. A reset by the peer destroys it with an error, which ends nothing else where nobody
   * listens for it. If `handle` throws or rejects, its stream ends with `internal`, and `service-failed` is logged. Throws
   * `bad-argument` for a name that is taken.
   */
  serve(service: string, handle: (stream: MuxStream) => unknown, label?: string): void {
    const channels = label === undefined ? [...this.#channels.values()] : [this.#find(label)];
    for (const { registry } of channels) registry.addProgram(service, handle);
  }

  /**
   * A stream to a service of the peer, when the peer has accepted it: a round trip after there is a session. `label` need not
   * be given where there is one channel. Rejects with the peer's reason, such as `unknown-service`, `denied` or
   * `connect-refused`; with `open-timeout` where it has not answered after 30 s; with `no-session` after the `waitMs` of the
   * channel, and with `not-found`. An `error` of the stream that nobody listens for ends nothing.
   */
  async connect(service: string, label?: string): Promise<MuxStream> {
    return acceptedStream(await this.openStream(service, label));
  }

  /**
   * The same as soon as there is a session: the peer has not answered yet. `connect` is emitted when it accepts, `error` when it refuses.
   *
   * @internal
   */
  async openStream(service: string, label?: string): Promise<MuxStream> {
    return this.#find(label).openStream(service);
  }

  /** Resets a stream. Throws `not-found`. */
  closeStream(label: string, id: number): void {
    this.#find(label).closeStream(id);
  }

  // ---- egresses ---------------------------------------------------------------------------------------------------

  /** The egresses of each channel, and the rules that are in force there. */
  listEgress(): EgressStatus[] {
    return [...this.#channels.values()].flatMap((channel) => channel.listEgress());
  }

  /**
   * What would become of a connection to `HOST:PORT` by an egress of a channel: its name is resolved, and nothing is connected
   * to. Rejects with `bad-argument` for a destination that is none, `not-found`, or the reason of `signal`.
   */
  async testEgress(
    name: string,
    destination: string,
    label?: string,
    signal: AbortSignal = this.#stopping.signal,
  ): Promise<EgressTest> {
    return this.#find(label).testEgress(name, parseEgressDestination(destination), signal);
  }

  // ---- looking ----------------------------------------------------------------------------------------------------

  /** Throws `not-found`. */
  channel(label: string): ChannelStatus {
    return this.#find(label).status();
  }

  /** What each channel is doing. */
  listChannels(): ChannelStatus[] {
    return [...this.#channels.values()].map((channel) => channel.status());
  }

  /** Every forward of every channel. */
  listForwards(): ForwardStatus[] {
    return [...this.#channels.values()].flatMap(({ forwards }) => forwards.list());
  }

  /** What is offered on each channel, here and by its peer. */
  listServices(): ServiceStatus[] {
    return [...this.#channels.values()].flatMap((channel) => channel.listServices());
  }

  /** The ports that are announced on each channel, here and by its peer. */
  listPorts(): PortStatus[] {
    return [...this.#channels.values()].flatMap(({ ports }) => ports.list());
  }

  /** Every stream that is open. */
  listStreams(): StreamStatus[] {
    return [...this.#channels.values()].flatMap((channel) => channel.listStreams());
  }

  /** What the channels are made of, with the forwards that they have now; a group is one of them, its channels are not. */
  get options(): ChannelOptions[] {
    const channels = [...this.#channels.values()].filter(({ options: { group = null } }) => group === null);
    const own = channels.map((channel) => ({ ...channel.options, forwards: channel.wantedForwards }));
    return [...own, ...this.#groups.states.map(({ options }) => options)];
  }

  /** The round trip through a peer, in milliseconds. Rejects with `not-found` or `no-session`. */
  async ping(label?: string, timeoutMs = PING_TIMEOUT_MS): Promise<number> {
    return this.#find(label).ping(timeoutMs);
  }

  /**
   * Resolved as soon as a channel has a session, in which the peer offers `service` where one is given: the channel of
   * `label`, or any. Rejects with `no-session` after `timeoutMs`, when `signal` is aborted, or when the proxy stops; with
   * `not-found` where there is no such channel, and no group that could come to have it.
   */
  async waitFor(
    { label, service = null }: { readonly label?: string; readonly service?: string | null },
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<ChannelStatus> {
    if (label !== undefined && !this.#groups.canHave(label)) this.#find(label);
    const ready = deferred<ChannelStatus>();
    const what = service === null ? 'a session' : `the service ${escapeText(service, 80)}`;
    const fail = () =>
      ready.reject(
        new VproxyError(
          'no-session',
          `there was not ${what} on ${label ?? 'any channel'} within ${timeoutMs / 1000} s${this.#whyDown(label)}`,
        ),
      );
    const look = () => {
      const found = [...this.#channels.values()].find(
        (channel) => (label === undefined || channel.label === label) && channel.isReady(service),
      );
      if (found !== undefined) ready.resolve(found.status());
    };
    const cancel = this.#context.clock.schedule(timeoutMs, fail);
    const signals = signal === undefined ? [this.#stopping.signal] : [this.#stopping.signal, signal];
    for (const one of signals) one.addEventListener('abort', fail);
    this.on('changed', look);
    look();
    try {
      return await ready.promise;
    } finally {
      cancel();
      this.off('changed', look);
      for (const one of signals) one.removeEventListener('abort', fail);
    }
  }

  // ---- inside -----------------------------------------------------------------------------------------------------

  #create(options: ChannelOptions): ProxyChannel {
    return new ProxyChannel(options, this.#context);
  }

  #fail(channel: ProxyChannel, reason: VproxyError): void {
    const channels = [...this.#channels.values()];
    // A group may find a socket that works.
    if (this.#groups.isEmpty && channels.every(({ sessions }) => sessions.record.state.name === 'failed'))
      this.emit('fatal', reason);
    else this.#logFailure(channel, reason);
    this.emit('changed');
  }

  /** Takes a channel up that is not begun. Throws `bad-argument` for a label that is taken, or where it is another one already. */
  #hold(channel: ProxyChannel): void {
    this.#requireFree(channel.label);
    requireFreePlaces([channel], this.#channels.values());
    this.#channels.set(channel.label, channel);
  }

  #requireFree(label: string): void {
    if (this.#channels.has(label) || this.#groups.has(label)) throw labelTaken(label);
  }

  async #begin(channel: ProxyChannel): Promise<void> {
    this.#hold(channel);
    try {
      this.#makeFolders(channel.options);
      await channel.listen();
      await channel.open();
    } catch (error) {
      await this.#end(channel);
      throw error;
    }
  }

  /** Makes the folders of a group's channel; gives what takes that back. Throws `address-…` codes. */
  #makeFolders({ label = DEFAULT_LABEL, group = null, forwards = [] }: ChannelOptions): () => void {
    return group === null ? () => undefined : this.#folders.make(label, forwards);
  }

  async #end(channel: ProxyChannel): Promise<void> {
    if (this.#channels.get(channel.label) === channel) this.#channels.delete(channel.label);
    await channel.stop('the channel was removed');
    this.#folders.remove(channel.label);
  }

  /** Runs changes one after the other, so that none sees half of another. */
  #change<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#changes.then(() => {
      if (this.#stopping.signal.aborted) throw new VproxyError('shutdown', 'this process is ending');
      return work();
    });
    this.#changes = done.catch(() => undefined);
    return this.#count(done);
  }

  /** Counts a change until it is made. */
  async #count<T>(change: Promise<T>): Promise<T> {
    this.#changeCount += 1;
    try {
      return await change;
    } finally {
      this.#changeCount -= 1;
    }
  }

  #logFailure({ label: channel }: ProxyChannel, { code, message }: VproxyError): void {
    this.emit('log', makeEvent('channel-failed', `${channel}: ${message}`, { channel, code }));
  }

  /** Of the channel that is named, or the only one. */
  #whyDown(label?: string): string {
    const [found, ...others] = [...this.#channels.values()].filter((one) => (label ?? one.label) === one.label);
    return others.length === 0 ? (found?.whyDown ?? '') : '';
  }

  #find(label?: string): ProxyChannel {
    return chooseChannel(this.#channels, label);
  }
}
