/** Sessions over a program's own Duplex: services and streams without a channel address or a socket. */
import { randomBytes } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { EventEmitter } from 'eventemitter3';
import { VM_TRAITS } from './channel/kind.js';
import { DEFAULT_LIMITS, LIMIT_RANGES, SERVICE_NAME } from './codec/limits.js';
import { badArgument, VproxyError } from './errors.js';
import { ServiceRegistry } from './forward/service-registry.js';
import { DEFAULT_WAIT_MS, SessionSource } from './forward/session-source.js';
import { DuplexLink } from './link/duplex-link.js';
import { LinkRunner } from './link/link-runner.js';
import { MuxStream } from './session/mux-stream.js';
import { SecretKey } from './session/opening/auth.js';
import type { Session } from './session/session.js';
import { sessionSettings } from './session/settings.js';
import { describeSession } from './status/describe.js';
import type { SessionStatus } from './status/types.js';
import { AMOUNT, type ChecksOf, FUNCTION, listOf, OBJECT, orNull, record, TEXT, tableOf } from './util/checks.js';
import { type Clock, systemClock } from './util/clock.js';
import { deferred } from './util/concurrency.js';
import { escapeText } from './util/escape.js';

/**
 * Receives each stream that the peer opens to a service, already accepted. A reset by the peer destroys the stream with an
 * error, which is harmless without an `error` listener. If the handler throws or rejects, its stream ends with `internal`.
 */
export type ServiceStreamHandler = (stream: MuxStream) => unknown;

/** Options for `connectPeer`. */
export interface PeerOptions {
  /** Services offered to the peer from the start: handlers by service name. Default: none. */
  readonly services?: Readonly<Record<string, ServiceStreamHandler>>;
  /** The operator's name for this side, sent to the peer. Default null. */
  readonly name?: string | null;
  /** Program and version, sent to the peer. Default `vproxy`. */
  readonly agent?: string;
  /** Keys, each as the text of a key file, preferred first. With any, peers without a common key are rejected. Default: none. */
  readonly keys?: readonly string[];
  /** How many streams the peer may have open at once. Default 1024. */
  readonly streams?: number;
  /** Silence that ends a session, in milliseconds; null for never. Default null. */
  readonly deadAfterMs?: number | null;
  /** How long `connect` waits for a session, in milliseconds. Default 10,000. */
  readonly waitMs?: number;
  /** Default: the system clock. */
  readonly clock?: Clock;
}

const checkTypes = record({
  services: tableOf(FUNCTION),
  name: orNull(TEXT),
  agent: TEXT,
  keys: listOf(TEXT),
  streams: AMOUNT,
  deadAfterMs: orNull(AMOUNT),
  waitMs: AMOUNT,
  clock: OBJECT,
} satisfies ChecksOf<PeerOptions>);

/** The events of a {@link Peer}. */
export interface PeerEvents {
  /** A session was established: the first one, or one after another has ended. */
  session: [session: SessionStatus];
  /** The peer announced its services, or changed them. */
  services: [services: readonly string[]];
  /** A session ended, or could not be established. While the Duplex is open, another one is tried. */
  ended: [reason: VproxyError];
  /** The handler of a service threw or rejected, or a listener on its stream threw. Only that stream ended, with `internal`. */
  failed: [service: string, error: unknown];
}

/**
 * A vproxy at the other side of a Duplex. Sessions follow one another while the Duplex is open: a session ends with its
 * streams when the peer restarts. Created by `connectPeer`.
 */
export class Peer extends EventEmitter<PeerEvents> {
  /** Resolved when the Duplex is closed, with the reason: `shutdown` after `close`. Never rejects. */
  readonly closed: Promise<VproxyError>;
  readonly #runner: LinkRunner;
  readonly #registry: ServiceRegistry;
  readonly #source: SessionSource;
  readonly #waitMs: number;
  readonly #closing = new AbortController();

  /** See {@link connectPeer}. */
  constructor(duplex: Duplex, options: PeerOptions = {}) {
    super();
    checkTypes(options, '');
    const { services = {}, keys = [], waitMs = DEFAULT_WAIT_MS, clock = systemClock } = options;
    const secrets = keys.map((text) => SecretKey.parse(text));
    this.#waitMs = waitMs;
    this.#source = new SessionSource(clock);
    this.#registry = new ServiceRegistry({
      onChange: () => this.#source.session?.setServices(this.#registry.list()),
      onFailed: ({ service }, error) => this.emit('failed', service, error),
    });
    for (const [service, handle] of Object.entries(services)) this.serve(service, handle);
    const settings = sessionSettings({
      instance: randomBytes(16).toString('hex'),
      randomBytes,
      keys: () => secrets,
      limits: { ...DEFAULT_LIMITS, streams: parseStreams(options.streams ?? DEFAULT_LIMITS.streams) },
      name: options.name ?? null,
      deadAfterMs: options.deadAfterMs ?? null,
      ...(options.agent !== undefined && { agent: options.agent }),
    });
    this.#runner = new LinkRunner(new DuplexLink('the Duplex', duplex, clock), clock, settings);
    const { loop } = this.#runner;
    loop.on('session', (session) => this.#begin(session));
    loop.on('ended', (session, reason) => {
      this.#source.withdraw(session);
      this.emit('ended', reason);
    });
    this.closed = this.#runner.closed;
    void this.closed.then(() => this.#closing.abort());
    this.#runner.start();
  }

  /** The current session, or null. */
  get session(): SessionStatus | null {
    const { current } = this.#source;
    return current === null ? null : describeSession(current, VM_TRAITS);
  }

  /** The services that the peer offers; empty without a session. */
  get services(): string[] {
    return [...(this.#source.current?.peerServices.names ?? [])];
  }

  /** Offers a service to the peer from now on. Throws `bad-argument` for a name that is invalid or taken. */
  serve(service: string, handle: ServiceStreamHandler): void {
    requireServiceName(service);
    this.#registry.addProgram(service, handle);
  }

  /**
   * Opens a stream to a service of the peer; resolves when the peer accepts it, a round trip after there is a session.
   * Rejects with the peer's reason, such as `unknown-service`, `denied` or `connect-refused`; with `open-timeout` if the peer
   * does not answer within 30 s; with `no-session` after `waitMs`, or when this peer is closed. An `error` of the stream
   * without a listener is harmless.
   */
  async connect(service: string): Promise<MuxStream> {
    requireServiceName(service);
    const session = await this.#source.wait(this.#waitMs, this.#closing.signal);
    return acceptedStream(MuxStream.open(session, service));
  }

  /** Notifies the peer, resets the streams, and closes the Duplex; resolves when it is closed, within a second. */
  async close(message = 'the program at the other end closed the session'): Promise<void> {
    this.#closing.abort();
    await this.#runner.stop(new VproxyError('shutdown', message));
  }

  #begin(session: Session): void {
    session.server = this.#registry;
    session.on('services', () => this.emit('services', this.services));
    session.start(this.#registry.list());
    if (session.isOver) return;
    this.#source.provide(session);
    this.emit('session', describeSession(session, VM_TRAITS));
  }
}

/**
 * Speaks vproxy over a Duplex that carries bytes in order, both ways: a socket, a serial port, a TLS connection, a pair in
 * memory. The peer then owns the Duplex: do not read, write or pause it; it is destroyed at the end. Throws `bad-argument`
 * for invalid options and for a Duplex that is closed or in object mode, `bad-file` for an invalid key.
 */
export function connectPeer(duplex: Duplex, options?: PeerOptions): Peer {
  return new Peer(duplex, options);
}

function requireServiceName(service: string): void {
  if (SERVICE_NAME.test(service)) return;
  const rule = '1 to 64 of a-z, 0-9, dot, underscore and hyphen, starting with a letter or digit';
  throw badArgument(`service "${escapeText(service, 80)}": a name must be ${rule}`);
}

function parseStreams(streams: number): number {
  const [min, max] = LIMIT_RANGES.streams;
  if (Number.isInteger(streams) && streams >= min && streams <= max) return streams;
  throw badArgument(`streams ${streams}: must be a whole number from ${min} to ${max}`);
}

/**
 * Resolves with a newly opened stream once the peer has accepted it; rejects with the peer's reason. Also rejects if the
 * stream ends in the same piece as the answer: its `error` would be emitted before the program has the stream. After that,
 * an `error` without a listener is harmless, so that no peer can crash a program that waits for something else.
 */
export async function acceptedStream(stream: MuxStream): Promise<MuxStream> {
  const answer = deferred();
  stream.holdStop();
  stream
    // Never removed.
    .on('error', (error) => answer.reject(error))
    .once('close', () => answer.reject(new VproxyError('cancelled', 'the stream was closed before it was accepted')))
    // Node emits the `error` of this turn before microtasks run.
    .once('connect', () => queueMicrotask(() => answer.resolve()));
  await answer.promise;
  // By then the program has attached its listeners.
  process.nextTick(() => stream.releaseStop());
  return stream;
}
