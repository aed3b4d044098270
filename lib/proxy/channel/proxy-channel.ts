/** One channel of a proxy: its supervisor, sessions, forwards and built-in services. */
import type { ChannelAddress } from '../../channel/address/address.js';
import { VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import { encodeProxyHeader } from '../../forward/endpoints/proxy-header.js';
import { ServiceGate, ServiceRegistry } from '../../forward/service-registry.js';
import { DEFAULT_WAIT_MS, SessionSource } from '../../forward/session-source.js';
import type { ForwardSpec } from '../../forward/spec.js';
import { withRemedy } from '../../remedies.js';
import { PermittedServices } from '../../services/permitted.js';
import type { Session } from '../../session/session.js';
import type { SessionStream } from '../../session/stream.js';
import { ChannelTally } from '../../status/channel-tally.js';
import { describeSession, describeStreams } from '../../status/describe.js';
import type { ChannelStatus, ServiceStatus, StreamStatus } from '../../status/types.js';
import type { KeepDescriptor } from '../../system/descriptors.js';
import { DEFAULT_BUFFER_BYTES } from '../../system/sockets/socket-buffer.js';
import { escapeText } from '../../util/escape.js';
import { RunningEgresses } from '../egress/grants.js';
import { type ForwardEntry, ForwardTable } from '../forward-table.js';
import { ChannelPorts, type ChannelPortsState } from '../ports/channel-ports.js';
import { PeerClock } from '../services/peer-clock.js';
import { isOfProgram, ProgramStreams } from '../services/program-streams.js';
import { Recordings } from '../services/recordings.js';
import { hasBroker, requestFilters, StorageService } from '../services/storage.js';
import type { ProxyChannelContext, ProxyChannelState, Restored } from './channel-context.js';
import {
  changedPolicies,
  type ParsedOptions,
  policiesOf,
  readKeys,
  resolvePolicy,
  settingsFor,
  writeOptions,
} from './channel-options.js';
import { type ChannelRecordState, ChannelSessions } from './channel-sessions.js';
import type { CheckedChannel } from './check-channel.js';
import { ChannelLog, logRefusals } from './log-limit.js';
import { measureRoundTrip } from './round-trip.js';
import { supervise } from './supervise.js';
import type { ChannelSupervisor, SupervisorState } from './supervisor.js';

/** Limit on the displayed list of the peer's services, in characters: there may be thousands. */
const MAX_LIST_LENGTH = 1024;

/** Composes and runs all layers over one channel. Call `listen` and `open` once, or `goOn` if restored; then `stop` once. */
export class ProxyChannel {
  readonly label: string;
  readonly address: ChannelAddress;
  /** See `placeOf`. */
  readonly place: string | null;
  readonly forwards: ForwardTable;
  readonly registry: ServiceRegistry;
  readonly egresses: RunningEgresses;
  readonly ports: ChannelPorts;
  readonly programs: ProgramStreams;
  /** Null if it serves no storage calls. */
  readonly storage: StorageService | null;
  readonly supervisor: ChannelSupervisor;
  readonly sessions: ChannelSessions;
  readonly tally: ChannelTally;
  /** Whether it was configured from the start, or by `Proxy.apply`. */
  isDeclared: boolean;
  readonly #context: ProxyChannelContext;
  readonly #source: SessionSource;
  /** Sessions whose peer has announced its services. */
  readonly #listed = new WeakSet<Session>();
  readonly #permitted: PermittedServices;
  readonly #peerClock: PeerClock;
  readonly #recordings: Recordings;
  readonly #stopping = new AbortController();
  readonly #channelLog: ChannelLog;
  /** Its options, including adopted changes, and its keys. */
  checked: CheckedChannel;

  /** If `restored`, it continues with a predecessor's state, and neither reads nor writes before `goOn`. */
  constructor(checked: CheckedChannel, context: ProxyChannelContext, restored?: Restored<ProxyChannelState>) {
    const { label, address, place, options } = checked;
    const { clock } = context;
    const state = restored?.state;
    const log = this.#log;
    this.label = label;
    this.address = address;
    this.place = place;
    this.isDeclared = state?.isDeclared ?? true;
    this.checked = checked;
    this.#context = context;
    this.#source = new SessionSource(clock);
    this.#channelLog = new ChannelLog({ label, ...context });
    this.tally = new ChannelTally(() => this.#channelLog.suppressed);
    this.egresses = this.#makeEgresses(state);
    this.registry = this.#makeRegistry();
    this.forwards = this.#makeForwards();
    this.storage = hasBroker(options) ? this.#makeStorage() : null;
    this.ports = this.#makePorts(state?.ports);
    this.#recordings = new Recordings({ label, clock, log });
    for (const part of [this.ports, this.#recordings]) part.adopt(options);
    this.programs = this.#makePrograms();
    const findRecorder = this.#recordings.find;
    this.#permitted = new PermittedServices({ registry: this.registry, findRecorder, clock, log });
    this.#putGates(Object.keys(policiesOf(options)));
    this.#permitted.prepare(options)();
    this.#peerClock = new PeerClock(address, clock);
    this.sessions = this.#makeSessions(state?.record);
    this.supervisor = this.#supervise(state?.supervisor.keeper);
    if (restored !== undefined) this.#restore(restored);
  }

  readonly #log: Log = (event) => {
    this.tally.record(event);
    this.egresses.counts.record(event);
    this.#channelLog.log(event);
  };

  #makeRegistry(): ServiceRegistry {
    return new ServiceRegistry({
      onChange: () => {
        const { current } = this.#source;
        if (current?.isDraining === false) current.setServices(this.registry.list(), this.ports.announced);
      },
      ...logRefusals(this.#channelLog.log, (service, code) => this.#countRefused(service, code)),
    });
  }

  #makeEgresses(state: ProxyChannelState | undefined): RunningEgresses {
    const forwards = () => this.forwards.active.map(({ forward }) => forward.spec);
    const onRevoked = (egress: string, rules: ReadonlySet<string> | null) => this.forwards.revoke(egress, rules);
    const options = { clock: this.#context.clock, log: this.#log, forwards, onRevoked };
    return new RunningEgresses(this.label, this.checked.egress, options, state?.egresses, state?.names);
  }

  #makeForwards(): ForwardTable {
    const { label, options } = this.checked;
    const { addresses, nextForwardId, onListening } = this.#context;
    return new ForwardTable({
      channel: label,
      registry: this.registry,
      maxStreams: this.address.traits.streams,
      preamble: options.peerAddress === true ? ({ id }) => encodeProxyHeader({ label, streamId: id }) : null,
      egress: (name) => this.egresses.egresses.get(name) ?? null,
      names: this.egresses.names,
      filters: requestFilters(options),
      offered: () => {
        const session = this.#source.current;
        return session !== null && this.#listed.has(session) ? session.peerServices.names : null;
      },
      tallyOf: (direction, service) => this.tally.streamsOf(direction, service),
      nextId: nextForwardId,
      addresses,
      onListening,
      ...this.#shared,
    });
  }

  #makeStorage(): StorageService {
    const { storage = {}, name = null } = this.options;
    const { clock } = this.#context;
    return new StorageService({ storage, name, source: this.#source, registry: this.registry, clock, log: this.#log });
  }

  #makePorts(state: ChannelPortsState | undefined): ChannelPorts {
    const { addresses, makeFolders } = this.#context;
    const options = {
      label: this.label,
      forwards: this.forwards,
      addresses,
      registry: this.registry,
      makeFolder: (spec: ForwardSpec) => makeFolders(this.label, [spec]),
      ...this.#shared,
    };
    return new ChannelPorts(options, state);
  }

  #makePrograms(): ProgramStreams {
    return new ProgramStreams({
      recordings: this.#recordings,
      ends: this.#context.streamEnds,
      signal: this.#stopping.signal,
      whyDown: () => this.whyDown,
      ...this.#shared,
    });
  }

  #makeSessions(state: ChannelRecordState | undefined): ChannelSessions {
    const options = {
      channel: this.address,
      source: this.#source,
      clock: this.#context.clock,
      log: this.#log,
      skippedBytes: () => this.supervisor.skippedBytes,
      onSession: (session: Session, isRestored: boolean) => this.#begin(session, isRestored),
      onChanged: () => this.#tellChange(),
      onEnded: (reason: VproxyError) => this.#context.onEnded(this, reason),
    };
    return new ChannelSessions(options, state);
  }

  #supervise(record: SupervisorState['keeper'] | undefined): ChannelSupervisor {
    const { clock, identity, findRival, onFatal } = this.#context;
    const { kind, address } = this.address;
    const { bufferBytes = DEFAULT_BUFFER_BYTES, group = null } = this.options;
    const settings = settingsFor(this.options, () => this.checked.keys, identity, clock);
    const { resume } = settings;
    if (resume !== null) resume.kept.onEnded = (session, reason) => this.sessions.end(session, reason);
    return supervise({
      channel: this.address,
      settings,
      bufferBytes,
      clock,
      // Otherwise anyone who can create files in a group's folder could have it connect to any socket.
      followsLinks: group === null,
      sessions: this.sessions,
      findRival,
      onFatal: (reason) => onFatal(this, withRemedy(reason, kind.locate?.(address).is)),
      record,
    });
  }

  /** What its parts that wait for a session need. */
  get #shared() {
    const { waitMs = DEFAULT_WAIT_MS } = this.options;
    return { source: this.#source, clock: this.#context.clock, log: this.#log, waitMs };
  }

  #restore({ state, take }: Restored<ProxyChannelState>): void {
    const { supervisor, whereabouts, forwards, programs, storage } = state;
    const session = this.supervisor.restore(supervisor, take);
    const streams = session?.streams.listAll() ?? [];
    for (const stream of streams) if (stream.isIncoming && stream.isAnswered) this.registry.readmit(stream);
    this.forwards.restore(forwards, take, streams);
    this.programs.restore(programs, { take, streams });
    this.storage?.restore(storage, take);
    // Only after all services are offered again, so that the peer receives just the differences.
    if (session !== null && whereabouts !== null) this.sessions.restore(session, whereabouts);
  }

  get options(): ParsedOptions {
    return this.checked.options;
  }

  /** The configured and added forwards, without those of automatic port forwarding. */
  get wantedForwards(): ForwardSpec[] {
    const entries = this.forwards.active.filter((entry) => entry.isDeclared || !this.ports.has(entry));
    return entries.map(({ forward }) => forward.spec);
  }

  /** Listens for storage calls, and for the outgoing forwards of its options. Rejects with `address-…` codes. */
  async listen(): Promise<void> {
    for (const spec of this.options.forwards ?? []) await this.forwards.start(this.forwards.create(spec));
    await this.storage?.start();
    this.#permitted.start();
    // It may have begun to listen after `stop` had run.
    if (this.#stopping.signal.aborted) await this.stop();
  }

  /** Starts an added forward. Rejects as {@link ForwardTable.start} does. */
  async startForward(entry: ForwardEntry): Promise<void> {
    await this.forwards.start(entry);
    this.forwards.warnOfMissing([entry]);
  }

  /** Opens the channel, which may take forever. Rejects if it should listen and cannot. */
  async open(): Promise<void> {
    await this.supervisor.start();
    if (this.#stopping.signal.aborted) await this.stop();
  }

  // ---- for a successor of this process ----------------------------------------------------------------------------

  /** What cannot be handed over now, as human-readable lines. */
  obstacles(): string[] {
    const session = this.#source.current;
    const found = [
      ...this.forwards.obstacles(),
      ...this.ports.obstacles(),
      ...this.programs.obstacles(),
      ...(this.storage?.obstacles() ?? []),
      ...[...this.#permitted.jobs, ...this.#permitted.unfinished, ...this.#recordings.obstacles],
    ];
    // A session with a secret can resume on another link.
    const endsWithLink = session !== null && session.secret === null && !session.isSuspended;
    if (endsWithLink && !this.supervisor.canHandOver(session))
      found.push(`its session, which cannot outlive its link (${this.address.text})`);
    return found.map((what) => `${this.label}: ${what}`);
  }

  /** Ends streams that programs open again, and if it `isForced` ends what only the peer can end; returns a line for each. */
  cutObstacles(isForced: boolean): string[] {
    const ids = new Set(this.forwards.endedByPeer());
    const isPeers = (stream: SessionStream) => ids.has(stream.id) || (stream.isIncoming && isOfProgram(stream));
    const streams = (this.#source.current?.streams.list() ?? []).filter(
      (stream) => this.programs.isCut(stream) || (isForced && isPeers(stream)),
    );
    for (const stream of streams) stream.reset('shutdown', 'vproxy is being upgraded and cannot hand over the stream');
    const work = isForced ? [...this.#permitted.cut(), ...this.forwards.cut()] : [];
    const cut = [...streams.map(({ id, service }) => `stream ${id} to ${service}`), ...work];
    return cut.map((what) => `${this.label}: ${what}`);
  }

  /** Whether it has neither streams nor connections. */
  get isIdle(): boolean {
    const { forwards, programs } = this;
    return (this.#source.current?.streams.listAll().length ?? 0) === 0 && !forwards.isServing && !programs.isServing;
  }

  /** Captures the state for a successor, with `options` if that has them. */
  capture(keepOne: KeepDescriptor, options: number | null): ProxyChannelState {
    const session = this.#source.current;
    const descriptors: number[] = [];
    const keep = (fd: number) => descriptors[descriptors.push(keepOne(fd)) - 1] as number;
    const indexes = new Map(session?.streams.listAll().map((stream, index) => [stream, index]));
    const indexOf = (stream: SessionStream) => indexes.get(stream) ?? -1;
    return {
      options: options ?? writeOptions(this.options),
      isDeclared: this.isDeclared,
      descriptors,
      record: this.sessions.record.state,
      whereabouts: session === null ? null : this.sessions.whereaboutsOf(session),
      forwards: this.forwards.capture(keep, indexOf),
      ports: this.ports.state,
      storage: this.storage?.capture(keep) ?? [],
      programs: this.programs.capture(keep, indexOf),
      egresses: this.egresses.changes,
      names: this.egresses.names.state,
      supervisor: this.supervisor.capture(session, keep),
    };
  }

  /**
   * Starts a restored channel, instead of `listen` and `open`. Unanswered streams are offered again; those of emulators end,
   * and the emulators attach again.
   */
  goOn(): void {
    this.storage?.goOn();
    this.#permitted.start();
    this.supervisor.goOn();
    this.forwards.goOn();
    this.programs.goOn();
    this.egresses.goOn();
    this.#tellChange();
  }

  /** Notifies the peer and closes everything, within a second. */
  async stop(message = 'the peer was stopped'): Promise<void> {
    this.#stopping.abort();
    this.ports.stop();
    this.egresses.stop();
    const streamsReset = this.supervisor.stop(new VproxyError('shutdown', message));
    await Promise.all([streamsReset, this.storage?.stop(), this.#permitted.stop(), this.forwards.stop()]);
    await this.#recordings.stop();
    this.#channelLog.stop();
  }

  /**
   * Stops opening streams, and closes the channel when the open ones have ended, so that no other session begins; resolves when
   * what outlives them has ended, too. Each takes 30 s at most. Call `stop` afterwards.
   */
  async drain(message: string): Promise<void> {
    const session = this.#source.current;
    this.ports.stop();
    for (const { forward } of this.forwards.active) forward.pause();
    const ended = session?.isOver === false ? new Promise((resolve) => session.once('end', resolve)) : null;
    session?.drain(message);
    await ended;
    if (this.#stopping.signal.aborted) return;
    const closed = this.supervisor.close(new VproxyError('shutdown', message));
    this.sessions.record.enter('draining', message);
    const isServing = () => this.forwards.isServing || this.programs.isServing;
    await Promise.all([closed, this.#permitted.finish(this.#stopping.signal, isServing)]);
  }

  /** Rereads the key files, for future sessions. Throws `bad-file`, and then keeps the current keys. */
  reloadKeys(): void {
    this.checked = { ...this.checked, keys: readKeys(this.options) };
  }

  /**
   * Returns a function that adopts the keys, rules, egresses and permissions of other options, for future
   * streams; it cannot fail if called in the same turn. Throws `bad-argument` if the name of a newly permitted service is
   * taken.
   */
  prepareAdoption(wanted: CheckedChannel): () => void {
    const { options } = wanted;
    const allow = this.#permitted.prepare(options);
    return () => {
      const changed = changedPolicies(policiesOf(this.options), policiesOf(options));
      this.checked = wanted;
      this.egresses.adopt(wanted.egress);
      this.#putGates(changed);
      this.#recordings.adopt(options);
      allow();
      this.ports.adopt(options);
    };
  }

  /** Applies the rules of these services. */
  #putGates(services: readonly string[]): void {
    const policies = policiesOf(this.options);
    for (const service of services) {
      const own = resolvePolicy(policies[service], this.label, this.options.group ?? null);
      const policy = this.#permitted.applyRule(service, own);
      this.registry.setGate(service, policy === null ? null : new ServiceGate(policy, this.#context.clock));
    }
  }

  /** What it waits for, as the end of a message: `: unix-connect:/run/vm1.sock is missing`; or empty. */
  get whyDown(): string {
    const { whyDown } = this.sessions.record.state;
    return whyDown === null ? '' : `: ${whyDown}`;
  }

  /** Whether there is a session in which the peer offers the service, if one is given. */
  isReady(service: string | null): boolean {
    const { session } = this.#source;
    return session !== null && (service === null || session.peerServices.names.has(service));
  }

  /** Measures the round trip through the peer, in milliseconds. Rejects with `no-session`, after `timeoutMs` at the latest. */
  ping(timeoutMs: number): Promise<number> {
    const { session } = this.#source;
    if (session !== null) return measureRoundTrip(session, timeoutMs);
    const what = this.#source.current?.isSuspended === true ? 'the session is suspended' : 'no session';
    return Promise.reject(new VproxyError('no-session', `${what} on channel ${this.label}${this.whyDown}`));
  }

  /** Resets a stream. Throws `not-found`. */
  closeStream(id: number): void {
    const stream = this.#source.current?.streams.list().find((found) => found.id === id && id !== 0);
    if (stream === undefined) throw new VproxyError('not-found', `no stream ${id} on channel ${this.label}`);
    stream.reset('cancelled', 'the stream was closed by an operator');
  }

  status(): ChannelStatus {
    const { record } = this.sessions;
    const { session, totals } = this.sessions.measure();
    return {
      label: this.label,
      group: this.options.group ?? null,
      address: this.address.text,
      ...record.describe(),
      session: session === null ? null : describeSession(session, this.address.traits),
      bufferBytes: this.supervisor.bufferBytes,
      history: record.history,
      totals,
    };
  }

  listServices(): ServiceStatus[] {
    const channel = this.label;
    const own = this.registry.list().flatMap((service) => {
      const forwards = this.forwards.serving(service);
      return (forwards.length > 0 ? forwards : [null]).map((forward) => {
        return { channel, service, offeredBy: 'here', forward } as const;
      });
    });
    const peers = [...(this.#source.current?.peerServices.names ?? [])].map((service) => {
      return { channel, service, offeredBy: 'peer', forward: null } as const;
    });
    return [...own, ...peers];
  }

  listStreams(): StreamStatus[] {
    const session = this.#source.current;
    return session === null ? [] : describeStreams(this.label, session);
  }

  #begin(session: Session, isRestored: boolean): void {
    session.server = this.registry;
    session.on('measured', (roundTripMs) => this.tally.roundTrips.add(roundTripMs));
    if (isRestored) {
      this.#listed.add(session);
      this.#peerClock.update(session);
    }
    session.on('services', (services) => {
      const list = escapeText([...services].join(', '), MAX_LIST_LENGTH);
      this.#log(makeEvent('services', `the peer offers: ${list || 'nothing'}`, { services: list }));
      // Warn only about the first list: later changes are intentional.
      const isFirst = !this.#listed.has(session);
      this.#listed.add(session);
      if (isFirst) this.forwards.warnOfMissing(this.forwards.active);
      this.#peerClock.update(session);
      this.#tellChange();
    });
    if (!isRestored) session.start(this.registry.list(), this.ports.announced);
  }

  /** A stream of the peer was refused: its service is counted by name if the configuration names it. */
  #countRefused(service: string, code: string): void {
    const isNamed = this.registry.has(service) || this.options.policies?.[service] !== undefined;
    this.tally.streamsOf('incoming', isNamed ? service : null).countRefused(code);
  }

  /** The session, its peer's services, or the state of the channel changed. */
  #tellChange(): void {
    this.ports.sessionChanged();
    this.storage?.wake();
    this.#context.onChanged(this);
  }
}
