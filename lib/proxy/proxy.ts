/** A running vproxy: one channel, its sessions, the forwards over them, and the storage broker. */
import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'eventemitter3';
import { type ChannelAddress, parseChannel } from '../channel/address.js';
import { DEFAULT_LIMITS } from '../codec/limits.js';
import { VproxyError } from '../errors.js';
import { IncomingForward } from '../forward/incoming.js';
import { OutgoingForward } from '../forward/outgoing.js';
import { ServiceRegistry } from '../forward/service-registry.js';
import { SessionSource } from '../forward/session-source.js';
import type { ForwardSpec } from '../forward/spec.js';
import { Budget } from '../session/budget.js';
import { MuxStream } from '../session/mux-stream.js';
import type { Session } from '../session/session.js';
import {
  CHANNEL_BUDGET_BYTES,
  PROCESS_BUDGET_BYTES,
  type SessionSettings,
  sessionSettings,
} from '../session/settings.js';
import { type Clock, systemClock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import type { LogEvent } from '../util/log-event.js';
import type { ChannelSupervisor } from './channel-supervisor.js';
import { DialSupervisor } from './dial-supervisor.js';
import { ListenSupervisor } from './listen-supervisor.js';
import { LogLimit } from './log-limit.js';
import { STORAGE_SERVICE, type StorageOptions, StorageService } from './storage-service.js';

/** What a proxy is made of. */
export interface ProxyOptions {
  /** The channel's text, `KIND:ADDRESS[,key=value…]`. */
  readonly channel: string;
  readonly forwards: readonly ForwardSpec[];
  /** The operator's name for this side, told to the peer. Default null. */
  readonly name?: string | null;
  /** Program and version, told to the peer. */
  readonly agent: string;
  /** How long a local connection waits for a session, in milliseconds. Default 10,000. */
  readonly waitMs?: number;
  /** Silence for so long ends the session, in milliseconds; null: never. Default: what suits the channel's kind. */
  readonly deadAfterMs?: number | null;
  /** Lets a channel listen on addresses that other machines reach. Default false. */
  readonly insecure?: boolean;
  readonly storage?: StorageOptions;
  /** Default `systemClock`. */
  readonly clock?: Clock;
}

export interface ProxyEvents {
  log: [event: LogEvent];
  /** The channel can never work, or not any more: stop the proxy, and end with the exit status of the code. */
  fatal: [reason: VproxyError];
}

/** How long a local connection waits for a session by default. */
const WAIT_MS = 10_000;

/** So much of the peer's list of services is shown: it may have thousands. */
const MAX_LIST_LENGTH = 1024;

/** Composition and life of all layers. `start` once, then `stop` once. */
export class Proxy extends EventEmitter<ProxyEvents> {
  readonly #supervisor: ChannelSupervisor;
  readonly #source: SessionSource;
  readonly #registry = new ServiceRegistry();
  readonly #outgoing: OutgoingForward[] = [];
  readonly #incoming: IncomingForward[] = [];
  readonly #storage: StorageService | null;
  readonly #waitMs: number;
  readonly #stopping = new AbortController();
  readonly #logLimit: LogLimit;

  /** Throws `bad-argument` for a channel or a forward that is not valid or not allowed. */
  constructor(options: ProxyOptions) {
    super();
    const clock = options.clock ?? systemClock;
    const channel = parseChannel(options.channel);
    requirePrivacy(channel, options.insecure ?? false);
    this.#source = new SessionSource(clock);
    this.#waitMs = options.waitMs ?? WAIT_MS;
    this.#logLimit = new LogLimit((event) => this.emit('log', event), clock);
    const log = (event: LogEvent): void => this.#logLimit.log(event);
    for (const spec of options.forwards) {
      if (spec.direction === 'outgoing') {
        this.#outgoing.push(new OutgoingForward(spec, { source: this.#source, log, clock, waitMs: this.#waitMs }));
      } else {
        const forward = new IncomingForward(spec, { log, clock, maxStreams: channel.traits.streams });
        this.#registry.add(spec.service, (stream) => forward.serve(stream));
        this.#incoming.push(forward);
      }
    }
    this.#storage = hasBroker(channel, options)
      ? new StorageService({
          storage: options.storage ?? {},
          source: this.#source,
          registry: this.#registry,
          name: options.name ?? null,
          clock,
          log,
        })
      : null;
    this.#supervisor = supervise(channel, settingsFor(channel, options), clock);
    this.#supervisor.on('log', log);
    this.#supervisor.on('fatal', (reason) => this.emit('fatal', reason));
    this.#supervisor.on('session', (session) => this.#take(session));
    this.#supervisor.on('ended', (session) => {
      this.#source.withdraw(session);
      this.#storage?.wake();
    });
  }

  /**
   * Listens for the outgoing forwards and the storage calls, then opens the channel, which may take for ever. Rejects
   * with `address-…` codes, and nothing listens any more then. Stopped meanwhile, it ends without having started.
   */
  async start(): Promise<void> {
    try {
      for (const forward of this.#outgoing) await forward.start();
      await this.#storage?.start();
      await this.#supervisor.start();
    } catch (error) {
      await this.stop();
      throw error;
    }
    // What began to listen after `stop` had looked at it.
    if (this.#stopping.signal.aborted) await this.stop();
  }

  /** Tells the peer, closes everything, and comes back within a second. */
  async stop(): Promise<void> {
    const reason = new VproxyError('shutdown', 'the process at the other end was stopped');
    this.#stopping.abort();
    const streamsReset = this.#supervisor.stop(reason);
    const forwards = [...this.#incoming, ...this.#outgoing];
    await Promise.all([streamsReset, this.#storage?.stop(), ...forwards.map((forward) => forward.stop())]);
    this.#logLimit.stop();
  }

  /**
   * Offers a service of this program: each stream that the peer opens to it is accepted and handed to `handle`. Throws
   * `bad-argument` for a name that is taken. Called before `start`.
   */
  serve(service: string, handle: (stream: MuxStream) => void): void {
    this.#registry.add(service, (stream, session) => handle(MuxStream.accept(session, stream)));
  }

  /** A stream to a service of the peer, as soon as there is a session. Rejects with `no-session` after `waitMs`. */
  async connect(service: string): Promise<MuxStream> {
    const session = await this.#source.wait(this.#waitMs, this.#stopping.signal);
    return MuxStream.open(session, service);
  }

  /** Opens a channel that waits for its next attempt now. */
  retryNow(): void {
    this.#supervisor.retryNow();
  }

  #take(session: Session): void {
    session.on('stream', (stream) => this.#registry.serve(stream, session));
    session.on('services', (services) => {
      const list = escapeText([...services].join(', '), MAX_LIST_LENGTH);
      const message = `the peer offers: ${list || 'nothing'}`;
      this.emit('log', { level: 'debug', event: 'services', message, fields: { services: list } });
      this.#storage?.wake();
    });
    session.start(this.#registry.list());
    if (!session.isOver) this.#source.provide(session);
  }
}

/** Other machines could connect to the channel, and nothing would protect it. */
function requirePrivacy({ kind, address, text }: ChannelAddress, isInsecureAllowed: boolean): void {
  if (kind.mode === 'dial' || isInsecureAllowed || kind.isPrivate(address)) return;
  throw new VproxyError(
    'bad-argument',
    `channel "${text}": listening where other machines can connect needs --insecure; 127.0.0.1 or [::1] does not`,
  );
}

/** The broker runs where the channel leads to a host, unless a forward has its name; elsewhere when it is asked for. */
function hasBroker({ traits }: ChannelAddress, { storage = {}, forwards }: ProxyOptions): boolean {
  if (storage.isAllowed === false || forwards.some(({ service }) => service === STORAGE_SERVICE)) return false;
  return traits.leadsToHost || (storage.socketPath ?? null) !== null;
}

function settingsFor({ traits }: ChannelAddress, options: ProxyOptions): SessionSettings {
  return sessionSettings({
    instance: randomBytes(16).toString('hex'),
    randomBytes,
    agent: options.agent,
    name: options.name ?? null,
    limits: {
      ...DEFAULT_LIMITS,
      frame: traits.frameBytes,
      inFlight: traits.inFlightBytes,
      streams: traits.streams,
    },
    integrity: traits.integrity,
    deadAfterMs: options.deadAfterMs === undefined ? traits.deadAfterMs : options.deadAfterMs,
    receiveBudget: new Budget(CHANNEL_BUDGET_BYTES, new Budget(PROCESS_BUDGET_BYTES)),
  });
}

function supervise(channel: ChannelAddress, settings: SessionSettings, clock: Clock): ChannelSupervisor {
  const options = { channel, settings, clock };
  return channel.kind.mode === 'dial'
    ? new DialSupervisor(channel.kind, options)
    : new ListenSupervisor(channel.kind, options);
}
