/** A running vproxy: its channels, and operations on all of them. */

import { randomBytes } from 'node:crypto';
import { setMaxListeners } from 'node:events';
import { closeSync } from 'node:fs';
import { EventEmitter } from 'eventemitter3';
import { toVproxyError, VproxyError } from '../errors.js';
import { makeEvent } from '../events.js';
import type { ForwardSpec } from '../forward/spec.js';
import { acceptedStream } from '../peer.js';
import type { MuxStream } from '../session/mux-stream.js';
import { listInsteadOf } from '../session/services.js';
import { PROCESS_BUDGET_BYTES, PROCESS_KEPT_BYTES } from '../session/settings.js';
import type {
  ChannelChanges,
  ChannelStatus,
  EgressQuestion,
  EgressStats,
  EgressStatus,
  EgressTest,
  ForwardStatus,
  PortStatus,
  ServiceStatus,
  StreamStatus,
} from '../status/types.js';
import type { KeepDescriptor } from '../system/descriptors.js';
import { Budget, FairBudget } from '../util/bounds.js';
import { systemClock } from '../util/clock.js';
import { deferred, LoopTurns } from '../util/concurrency.js';
import { escapeText } from '../util/escape.js';
import { chooseChannel } from '../util/labels.js';
import { applyChannels, requireFreePlaces } from './apply.js';
import { ChangeQueue } from './change-queue.js';
import type { ProxyChannelContext, ProxyChannelState } from './channel/channel-context.js';
import {
  type ChannelOptions,
  labelTaken,
  type ParsedOptions,
  parseAll,
  type WrittenOptions,
  writeOptions,
} from './channel/channel-options.js';
import { type CheckedChannel, checkChannel } from './channel/check-channel.js';
import { jsonLineBytes } from './channel/log-limit.js';
import { ProxyChannel } from './channel/proxy-channel.js';
import { requireEgress } from './egress/definitions.js';
import { parseEgressDestination, testEgress } from './egress/test-egress.js';
import { ForwardAddresses } from './forward-table.js';
import { type ChannelGroup, OwnFolders } from './groups/channel-group.js';
import { isGroup } from './groups/group-pattern.js';
import { GroupTable } from './groups/group-table.js';
import type { Legacy, MeasuredChannel, ProxyEvents, ProxyOptions, ProxyState, RemoveOptions } from './proxy-options.js';
import type { OpenOptions, ProgramSocket } from './services/program-streams.js';
import { StreamEnds } from './services/stream-ends.js';

/** Default timeout of a ping, in milliseconds. */
const PING_TIMEOUT_MS = 5000;

/** How many idle channels are restored with the others, so that a defect of all of them refuses the upgrade. */
const SAMPLE = 4;

/** Composes and runs all layers. Call `start` once, then `stop` once; channels and forwards may change in between. */
export class Proxy extends EventEmitter<ProxyEvents> {
  /**
   * How the streams that {@link joinStream} opened have ended.
   *
   * @internal
   */
  readonly streamEnds: StreamEnds;
  readonly #channels = new Map<string, ProxyChannel>();
  readonly #groups: GroupTable;
  readonly #folders: OwnFolders;
  readonly #context: ProxyChannelContext;
  readonly #stopping = new AbortController();
  readonly #changes = new ChangeQueue(this.#stopping.signal);
  #forwardCount: number;
  /** The numbers of the channels whose options a successor has checked. */
  #checked: ReadonlyMap<CheckedChannel, number> = new Map();
  #whole: Promise<unknown> | null = null;

  /** Throws `bad-argument` for a channel or a forward that is invalid or not allowed. */
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
    this.streamEnds = new StreamEnds(state?.streamEnds);
    // One listener per waiter for a session: not a leak, so Node must not warn about it on stderr.
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
      streamEnds: this.streamEnds,
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
      onFatal: (channel, reason) => void this.#fail(channel, reason),
    };
    this.#groups = new GroupTable(
      {
        find: (label) => this.#channels.get(label)?.status() ?? null,
        change: (work) => this.#changes.run(work),
        add: (options) => this.#begin(this.#create(checkChannel(options))),
        remove: (label) => this.#end(this.#find(label)),
        log: this.#context.log,
      },
      clock,
    );
    this.#folders = new OwnFolders(state?.folders);
    if (restored === undefined) this.#registerFirst(channels);
    else this.#restore(restored);
  }

  /** Creates the initial channels and groups. */
  #registerFirst(channels: readonly ChannelOptions[]): void {
    for (const options of parseAll(channels)) {
      if (!isGroup(options.address)) this.#register(this.#create(checkChannel(options)));
      else {
        this.#requireFree(options.label);
        this.#groups.register({ options, members: new Map() });
      }
    }
  }

  #restore(restored: Legacy): void {
    for (const group of restored.state.groups) this.#groups.register(group);
    for (const state of restored.state.channels) this.#restoreChannel(state, restored);
  }

  #restoreChannel(state: ProxyChannelState, { checked, take }: Legacy): ProxyChannel {
    const { options } = state;
    const own = typeof options === 'number' ? (checked[options] as CheckedChannel) : checkChannel(options);
    const channel = new ProxyChannel(own, this.#context, { state, take });
    this.#channels.set(channel.label, channel);
    return channel;
  }

  /**
   * Listens for outgoing forwards and storage calls, then opens the channels, which may take forever, and those for the
   * sockets that groups find. Rejects with `address-…` codes after closing all listeners. If stopped meanwhile, it resolves
   * without having started.
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

  /** Notifies the peers and closes everything; resolves within a second. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    this.#groups.stop();
    // A change in progress rolls back whatever no channel owns yet.
    await Promise.all([...[...this.#channels.values()].map((channel) => channel.stop()), this.#changes.settled]);
    this.#folders.removeAll();
  }

  // ---- for a successor of this process ----------------------------------------------------------------------------

  /**
   * What cannot be handed over now, as human-readable lines; most obstacles end by themselves.
   *
   * @internal
   */
  obstacles(): string[] {
    const changes = this.#changes.isIdle ? [] : ['channels or forwards are being changed'];
    return [...changes, ...[...this.#channels.values()].flatMap((channel) => channel.obstacles())];
  }

  /** See `Target.letWait`. @internal */
  letWait(isLast: boolean): boolean {
    return [...this.#channels.values()].filter(({ forwards }) => forwards.letWait(isLast)).length > 0;
  }

  /** How many of the obstacles may be gone in a moment, or are cut. @internal */
  passingCount(isCutting: boolean): number {
    const streams = [...this.#channels.values()].reduce(
      (sum, { programs }) => sum + programs.passingCount(isCutting),
      0,
    );
    return streams + (this.hasBriefChanges ? 1 : 0);
  }

  /** Whether channels or forwards are being changed, which ends in a moment. @internal */
  get hasBriefChanges(): boolean {
    return this.#changes.isBrief;
  }

  /** Resets streams that their programs open again, and if it `isForced` what only a peer can end; returns a line for each. @internal */
  cutObstacles(isForced: boolean): string[] {
    return [...this.#channels.values()].flatMap((channel) => channel.cutObstacles(isForced));
  }

  /** @internal */
  prepare(): WrittenOptions[] {
    const channels = [...this.#channels.values()];
    this.#checked = new Map(channels.map(({ checked }, index) => [checked, index]));
    return channels.map(({ options }) => writeOptions(options));
  }

  /** @internal */
  *captureIdle(): Generator<ProxyChannelState> {
    for (const channel of [...this.#channels.values()])
      if (channel.isIdle && channel.obstacles().length === 0) yield channel.capture(() => 0, 0);
  }

  /**
   * Captures the state for a successor. Nothing else may change in the same turn. `keep` numbers the descriptors.
   *
   * @internal
   */
  capture(keep: KeepDescriptor): ProxyState & { readonly idle: readonly ProxyChannelState[] } {
    const channels = [...this.#channels.values()];
    const idle = new Set(channels.filter((one) => one.isIdle && this.#checked.has(one.checked)).slice(SAMPLE));
    const capture = (one: ProxyChannel) => one.capture(keep, this.#checked.get(one.checked) ?? null);
    return {
      instance: this.#context.identity.instance,
      forwardCount: this.#forwardCount,
      labels: channels.map(({ label }) => label),
      channels: channels.filter((one) => !idle.has(one)).map(capture),
      idle: [...idle].map(capture),
      groups: this.#groups.states,
      streamEnds: this.streamEnds.state,
      folders: this.#folders.state,
    };
  }

  /**
   * Starts a restored proxy, instead of `start`: before this nothing is read or written. Resolves when the idle channels have
   * followed, and groups have scanned their folders.
   *
   * @internal
   */
  async goOn(restored: Legacy): Promise<void> {
    for (const channel of this.#channels.values()) channel.goOn();
    const whole = this.#goOnWithIdle(restored);
    const over = () => (this.#whole = null);
    this.#whole = whole.then(over, over);
    await whole;
    await this.#groups.start();
  }

  /**
   * Resolves when `goOn` has restored all channels: until then, call nothing else that concerns all. Never rejects; null if
   * there is nothing to wait for.
   *
   * @internal
   */
  get whole(): Promise<unknown> | null {
    return this.#whole;
  }

  async #goOnWithIdle(restored: Legacy): Promise<void> {
    const { checked, take } = restored;
    const turns = new LoopTurns();
    for (const state of restored.idle) {
      const turn = turns.nextTurn();
      if (turn !== null) await turn;
      let channel: ProxyChannel;
      try {
        channel = this.#restoreChannel(state, restored);
      } catch (error) {
        for (const index of state.descriptors) closeSync(take(index));
        this.#beginAnew(checked[Number(state.options)] as CheckedChannel, error);
        continue;
      }
      channel.goOn();
    }
    const channels = restored.state.labels.flatMap((label) => this.#channels.get(label) ?? []);
    this.#channels.clear();
    for (const channel of channels) this.#channels.set(channel.label, channel);
  }

  /** Begins a channel whose state cannot be restored, a defect, without it: its peer connects again. */
  #beginAnew(checked: CheckedChannel, error: unknown): void {
    const fail = (reason: unknown) => this.#logFailure(checked, toVproxyError(reason));
    fail(error);
    this.#changes.run(() => this.#begin(this.#create(checked))).catch(fail);
  }

  /**
   * Opens no more streams; resolves when the open ones have ended, at the latest after 30 s, and then what outlives them, after 30 s
   * more. Call `stop` afterwards.
   */
  async drain(): Promise<void> {
    await Promise.all([...this.#channels.values()].map((channel) => channel.drain('shutting down')));
  }

  /** Rereads all key files and returns the errors; a channel with an invalid file keeps its current keys. */
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

  /** Retries to open each channel now, and looks for the sockets of groups. */
  retryNow(): void {
    this.#groups.look();
    for (const channel of this.#channels.values()) channel.supervisor.retryNow();
  }

  // ---- channels ---------------------------------------------------------------------------------------------------

  /** Adds a channel, not a group. Rejects with `bad-argument` or `address-…` codes without changing anything. */
  addChannel(options: ChannelOptions): Promise<ChannelStatus> {
    return this.#changes.run(async () => {
      const channel = this.#create(checkChannel(options));
      channel.isDeclared = false;
      await this.#begin(channel);
      return channel.status();
    });
  }

  /**
   * Removes a channel with its forwards, after the changes in progress; other changes may happen while it drains. Rejects with
   * `not-found`.
   */
  async removeChannel(label: string, { isDraining = true }: RemoveOptions = {}): Promise<void> {
    const channel = await this.#changes.run(() => Promise.resolve(this.#find(label)));
    if (isDraining) await this.#changes.drain(channel.drain('the channel was removed'));
    await this.#changes.run(async () => {
      // Another channel may have replaced it by now.
      if (this.#channels.get(label) === channel) await this.#end(channel);
    });
  }

  /**
   * Replaces the configured channels, groups and forwards: adds and removes what differs; what is unchanged keeps its
   * sessions and streams. Rejects with `bad-argument` or `address-…` codes without changing anything.
   */
  async apply(channels: readonly ChannelOptions[]): Promise<ChannelChanges> {
    const [changes, newGroups] = await this.#changes.run(async () => {
      const plan = this.#groups.plan(parseAll(channels), this.listChannels());
      let begun: ChannelGroup[] = [];
      const done = await applyChannels(plan.channels.map(checkChannel), {
        channels: this.#channels,
        groupLabels: plan.labels,
        signal: this.#stopping.signal,
        create: (channel) => this.#create(channel),
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

  /** Adds a forward to a channel; `label` is optional if there is only one channel. Rejects as `addChannel` does. */
  addForward(spec: ForwardSpec, label?: string): Promise<ForwardStatus> {
    return this.#changes.run(async () => {
      const channel = this.#find(label);
      requireEgress(spec, Object.keys(channel.options.egress ?? {}));
      const entry = channel.forwards.create(spec, false);
      await channel.startForward(entry);
      return channel.forwards.describe(entry);
    });
  }

  /** Removes a forward; resolves when it is removed. Rejects with `not-found`. */
  async removeForward(id: string, { isDraining = true }: RemoveOptions = {}): Promise<void> {
    for (const { forwards } of this.#channels.values()) {
      const entry = forwards.find(id);
      if (entry !== null) return forwards.remove(entry, isDraining);
    }
    throw new VproxyError('not-found', `no forward "${escapeText(id, 80)}"`);
  }

  // ---- streams ----------------------------------------------------------------------------------------------------

  /**
   * Offers a service of this program on one channel, or on all current ones: each stream that a peer opens to it is accepted
   * and passed to `handle`. A reset by the peer destroys the stream with an error, which is harmless without an `error`
   * listener. If `handle` throws or rejects, its stream ends with `internal` and `service-failed` is logged. Throws
   * `bad-argument` for a taken name.
   */
  serve(service: string, handle: (stream: MuxStream) => unknown, label?: string): void {
    const channels = label === undefined ? [...this.#channels.values()] : [this.#find(label)];
    for (const { registry } of channels) registry.addProgram(service, handle);
  }

  /**
   * Opens a stream to a service of the peer; resolves when the peer accepts it, a round trip after there is a session.
   * `label` is optional if there is only one channel. Rejects with the peer's reason, such as `unknown-service`, `denied` or
   * `connect-refused`; with `open-timeout` if the peer does not answer within 30 s; with `no-session` after the `waitMs` of
   * the channel; and with `not-found`. An `error` of the stream without a listener is harmless.
   */
  async connect(service: string, label?: string): Promise<MuxStream> {
    return acceptedStream(await this.openStream(service, label));
  }

  /**
   * As `connect`, but resolves as soon as there is a session. The stream emits `connect` when accepted, `error` when refused.
   *
   * @internal
   */
  async openStream(service: string, label?: string, options?: OpenOptions): Promise<MuxStream> {
    return this.#find(label).programs.open(service, options);
  }

  /**
   * As `connect`, for the socket of a program. Rejects with the reason, and leaves the socket as it is then.
   *
   * @internal
   */
  async joinStream(service: string, label: string | undefined, program: ProgramSocket): Promise<void> {
    await this.#find(label).programs.join(service, program);
  }

  /** Resets a stream. Throws `not-found`. */
  closeStream(label: string, id: number): void {
    this.#find(label).closeStream(id);
  }

  // ---- egresses ---------------------------------------------------------------------------------------------------

  /** The egresses of each channel, with the rules in effect there. */
  listEgress(): EgressStatus[] {
    return [...this.#channels.values()].flatMap(({ egresses }) => egresses.list());
  }

  /**
   * Tests whether an egress of a channel would allow a connection to `HOST:PORT`: resolves the name, but does not connect.
   * Rejects with `bad-argument` for an invalid destination, `not-found`, or the reason of `signal`.
   */
  async testEgress(
    name: string,
    destination: string,
    label?: string,
    signal: AbortSignal = this.#stopping.signal,
  ): Promise<EgressTest> {
    const { clock } = this.#context;
    return testEgress(this.#find(label).egresses, name, parseEgressDestination(destination), { clock, signal });
  }

  /**
   * Adds entries, as a configuration has them, to what an egress allows: for `forMs`, 1 s to 30 days, or until `resetEgress`
   * (null). An entry that was added before gets the new time. Throws `bad-argument`, also if it is blocked, and `not-found`.
   */
  allowEgress(
    name: string,
    destinations: readonly string[],
    forMs: number | null,
    label?: string,
    askMs?: number,
  ): EgressStatus {
    return this.#find(label).egresses.allow(name, destinations, forMs, askMs);
  }

  /** What the egresses did in the last hour, by destination. */
  listEgressStats(): EgressStats[] {
    return [...this.#channels.values()].flatMap(({ egresses, label }) => egresses.counts.list(label));
  }

  /** The destinations that no entry names, and that wait for an answer. */
  listQuestions(): EgressQuestion[] {
    return [...this.#channels.values()].flatMap(({ egresses }) => egresses.questions);
  }

  /**
   * Answers a question by an entry for its destination, for `forMs` or until `resetEgress`. Throws as `allowEgress`, and
   * `not-found` if it is over.
   */
  answerEgress(id: string, isAllowed: boolean, forMs: number | null, label?: string): EgressStatus {
    const isOf = ({ egresses }: ProxyChannel): boolean => egresses.knows(id);
    const channel = label === undefined ? [...this.#channels.values()].find(isOf) : this.#find(label);
    if (channel === undefined) throw new VproxyError('not-found', `no question "${escapeText(id, 64)}"`);
    return channel.egresses.answer(id, isAllowed, forMs);
  }

  /** Denies everything until `resetEgress`; drops added entries, and resets all connections. Throws `not-found`. */
  blockEgress(name: string, label?: string): EgressStatus {
    return this.#find(label).egresses.block(name);
  }

  /** Undoes `allowEgress` and `blockEgress`, and resets connections that added entries allowed. Throws `not-found`. */
  resetEgress(name: string, label?: string): EgressStatus {
    return this.#find(label).egresses.reset(name);
  }

  // ---- queries ----------------------------------------------------------------------------------------------------

  /** Throws `not-found`. */
  channel(label: string): ChannelStatus {
    return this.#find(label).status();
  }

  /** The status of each channel. */
  listChannels(): ChannelStatus[] {
    return [...this.#channels.values()].map((channel) => channel.status());
  }

  /**
   * Whether each channel has a session in which the peer offers `service` (if given).
   *
   * @internal
   */
  listReady(service: string | null): { readonly label: string; readonly isReady: boolean }[] {
    return [...this.#channels.values()].map((one) => ({ label: one.label, isReady: one.isReady(service) }));
  }

  /**
   * The channels, for the metrics.
   *
   * @internal
   */
  listMeasured(): readonly MeasuredChannel[] {
    return [...this.#channels.values()];
  }

  /** Every forward of every channel. */
  listForwards(): ForwardStatus[] {
    return [...this.#channels.values()].flatMap(({ forwards }) => forwards.list());
  }

  /** The services offered on each channel, by this side and by its peer. */
  listServices(): ServiceStatus[] {
    return [...this.#channels.values()].flatMap((channel) => channel.listServices());
  }

  /** The ports announced on each channel, by this side and by its peer. */
  listPorts(): PortStatus[] {
    return [...this.#channels.values()].flatMap(({ ports }) => ports.list());
  }

  /** All open streams. */
  listStreams(): StreamStatus[] {
    return [...this.#channels.values()].flatMap((channel) => channel.listStreams());
  }

  /** The options of all channels with their current forwards; includes groups, but not the channels of groups. */
  get options(): WrittenOptions[] {
    return this.parsedOptions.map(writeOptions);
  }

  /**
   * The same, parsed.
   *
   * @internal
   */
  get parsedOptions(): ParsedOptions[] {
    const channels = [...this.#channels.values()].filter(({ options: { group = null } }) => group === null);
    const own = channels.map((channel) => ({ ...channel.options, forwards: channel.wantedForwards }));
    return [...own, ...this.#groups.options];
  }

  /** The round trip through a peer, in milliseconds. Rejects with `not-found` or `no-session`. */
  async ping(label?: string, timeoutMs = PING_TIMEOUT_MS): Promise<number> {
    return this.#find(label).ping(timeoutMs);
  }

  /**
   * Resolves as soon as the channel `label`, or any channel, has a session in which the peer offers `service` (if given).
   * Rejects with `no-session` after `timeoutMs`, when `signal` is aborted, or when the proxy stops; with `not-found` if there
   * is no such channel and no group that could add it.
   */
  async waitFor(
    { label, service = null }: { readonly label?: string; readonly service?: string | null },
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<ChannelStatus> {
    if (label !== undefined && !this.#groups.canHave(label)) this.#find(label);
    const ready = deferred<ChannelStatus>();
    const what = service === null ? 'session' : `service ${escapeText(service, 80)}`;
    const fail = () => {
      const why = this.#whyNotReady(label, service);
      ready.reject(new VproxyError('no-session', `no ${what} on ${label ?? 'any channel'}${why}`));
    };
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

  // ---- internal ---------------------------------------------------------------------------------------------------

  #create(channel: CheckedChannel): ProxyChannel {
    return new ProxyChannel(channel, this.#context);
  }

  async #fail(channel: Pick<ProxyChannel, 'label'>, reason: VproxyError): Promise<void> {
    await this.#whole;
    const channels = [...this.#channels.values()];
    // A group may find a socket that works.
    if (this.#groups.isEmpty && channels.every(({ sessions }) => sessions.record.state.name === 'failed'))
      this.emit('fatal', reason);
    else this.#logFailure(channel, reason);
    this.emit('changed');
  }

  /** Registers a channel that is not started. Throws `bad-argument` if its label or its place is taken. */
  #register(channel: ProxyChannel): void {
    this.#requireFree(channel.label);
    requireFreePlaces([channel], this.#channels.values());
    this.#channels.set(channel.label, channel);
  }

  #requireFree(label: string): void {
    if (this.#channels.has(label) || this.#groups.has(label)) throw labelTaken(label);
  }

  async #begin(channel: ProxyChannel): Promise<void> {
    this.#register(channel);
    try {
      this.#makeFolders(channel.options);
      await channel.listen();
      await channel.open();
    } catch (error) {
      await this.#end(channel);
      throw error;
    }
  }

  /** Creates the folders of a group's channel; returns the undo function. Throws `address-…` codes. */
  #makeFolders({ label, group = null, forwards = [] }: ParsedOptions): () => void {
    return group === null ? () => undefined : this.#folders.make(label, forwards);
  }

  async #end(channel: ProxyChannel): Promise<void> {
    if (this.#channels.get(channel.label) === channel) this.#channels.delete(channel.label);
    await channel.stop('the channel was removed');
    this.#folders.remove(channel.label);
  }

  #logFailure({ label: channel }: Pick<ProxyChannel, 'label'>, { code, message }: VproxyError): void {
    this.emit('log', makeEvent('channel-failed', `${channel}: ${message}`, { channel, code }));
  }

  /** Why the channel `label`, or the only one, is not ready; empty if unknown. */
  #whyNotReady(label: string | undefined, service: string | null): string {
    const [found, ...others] = [...this.#channels.values()].filter((one) => (label ?? one.label) === one.label);
    if (found === undefined || others.length > 0) return '';
    if (service === null || !found.isReady(null)) return found.whyDown;
    return `; the peer offers: ${listInsteadOf(service, new Set(found.status().session?.peer.services))}`;
  }

  #find(label?: string): ProxyChannel {
    return chooseChannel(this.#channels, label);
  }
}
