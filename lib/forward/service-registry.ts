/** The services that this side offers, and their handlers. */

import { badArgument, VproxyError } from '../errors.js';
import { MuxStream } from '../session/mux-stream.js';
import { Pacer, type StreamPace } from '../session/pacing.js';
import type { Session } from '../session/session.js';
import type { SessionStream } from '../session/stream.js';
import { TokenBucket } from '../util/bounds.js';
import type { Clock } from '../util/clock.js';
import type { Takes } from './endpoint-kind.js';

/**
 * Serves a stream that the peer opened: at once attaches a local end or refuses it. If it throws or rejects, the stream ends
 * with `internal`.
 */
export type ServiceHandler = (stream: SessionStream, session: Session) => unknown;

interface ServiceRegistryOptions {
  /** The offered services have changed. */
  readonly onChange?: () => void;
  /** The rule of its service refused a stream; `why` is the reason. */
  readonly onDenied?: (stream: SessionStream, why: string) => void;
  /** A stream was refused because its service is not offered, or not for this kind of stream; `why` tells which. */
  readonly onUnknown?: (stream: SessionStream, why: string) => void;
  /** The handler of a service threw or rejected, or a program's listener on the stream threw. */
  readonly onFailed?: (stream: SessionStream, error: unknown) => void;
}

const nothing = (): void => undefined;

type Kind = Exclude<Takes, 'both'>;

/** The handlers of a service's streams and datagram flows. */
type Offer = Partial<Record<Kind, ServiceHandler>>;

const kindsOf = (takes: Takes): readonly Kind[] => (takes === 'both' ? ['streams', 'datagrams'] : [takes]);

function whyUnserved({ service, isDatagram }: SessionStream, offer: Offer | undefined): string {
  if (offer === undefined) return `service ${service} is not offered`;
  return isDatagram
    ? `service ${service} takes streams, not datagrams`
    : `service ${service} takes datagrams, not streams`;
}

/** The services of a channel. */
export class ServiceRegistry {
  readonly #options: Required<ServiceRegistryOptions>;
  readonly #offers = new Map<string, Offer>();
  readonly #gates = new Map<string, ServiceGate>();
  #isGathering = false;

  constructor(options: ServiceRegistryOptions = {}) {
    this.#options = { onChange: nothing, onDenied: nothing, onUnknown: nothing, onFailed: nothing, ...options };
  }

  /** Offers a service, by default for streams. Throws `bad-argument` if the name is already taken. */
  add(service: string, handler: ServiceHandler, takes: Takes = 'streams'): void {
    this.requireFree(service, takes);
    const added = kindsOf(takes).map((kind) => [kind, handler] as const);
    this.#offers.set(service, { ...this.#offers.get(service), ...Object.fromEntries(added) });
    if (!this.#isGathering) this.#options.onChange();
  }

  /** Offers a program's service; its handler gets accepted streams. Throws `bad-argument` if the name is already taken. */
  addProgram(service: string, handle: (stream: MuxStream) => unknown): void {
    this.add(service, (incoming, session) => {
      const stream = MuxStream.accept(session, incoming);
      stream.onListenerFailed = (error) => this.#fail(incoming, error);
      return handle(stream);
    });
  }

  /** Throws `bad-argument` if the name is already taken, by default for streams. */
  requireFree(service: string, takes: Takes = 'streams'): void {
    const offer = this.#offers.get(service);
    if (offer === undefined || !kindsOf(takes).some((kind) => offer[kind] !== undefined)) return;
    const rule = 'a service can have one -i for streams and one for datagrams';
    throw badArgument(`service ${service} is offered twice; ${rule}`);
  }

  /** Withdraws a service if `handler` serves it. */
  remove(service: string, handler: ServiceHandler): void {
    const offers = Object.entries(this.#offers.get(service) ?? {});
    const left = offers.filter(([, other]) => other !== handler);
    if (left.length === offers.length) return;
    if (left.length === 0) this.#offers.delete(service);
    else this.#offers.set(service, Object.fromEntries(left));
    if (!this.#isGathering) this.#options.onChange();
  }

  /** Runs `work`, which adds and removes services, and announces all changes at once. */
  together(work: () => void): void {
    this.#isGathering = true;
    try {
      work();
    } finally {
      this.#isGathering = false;
      this.#options.onChange();
    }
  }

  /** Sets the gate of a service, even one not offered yet, for streams opened from now on; null removes it. */
  setGate(service: string, gate: ServiceGate | null): void {
    const before = this.#gates.get(service);
    if (before !== undefined) gate?.adopt(before);
    if (gate === null) this.#gates.delete(service);
    else this.#gates.set(service, gate);
  }

  has(service: string): boolean {
    return this.#offers.has(service);
  }

  list(): string[] {
    return [...this.#offers.keys()];
  }

  /** Applies the rule of its service (count, pace) to a stream admitted earlier. Call before the stream is attached. */
  readmit(stream: SessionStream): void {
    this.#gates.get(stream.service)?.readmit(stream);
  }

  /** Counts a stream whose session no longer has it, as long as it `isServed`. */
  keepPlace(ended: Ended & Pick<SessionStream, 'service'>): void {
    this.#gates.get(ended.service)?.keepPlace(ended);
  }

  /** Hands a stream to its service, or refuses it with `denied` or `too-many-streams` (no reason given), or `unknown-service` (also: wrong kind). */
  serve(stream: SessionStream, session: Session): void {
    const why = this.#gates.get(stream.service)?.admit(stream, session) ?? null;
    if (why !== null) {
      const { code, message } = why;
      stream.refuse(code, code === 'denied' ? 'not allowed' : 'too many streams');
      this.#options.onDenied(stream, message);
      return;
    }
    const offer = this.#offers.get(stream.service);
    const handler = offer?.[stream.isDatagram ? 'datagrams' : 'streams'];
    if (handler !== undefined) {
      this.#handle(stream, () => handler(stream, session));
      return;
    }
    const missing = whyUnserved(stream, offer);
    stream.refuse('unknown-service', missing);
    this.#options.onUnknown(stream, missing);
  }

  #handle(stream: SessionStream, handle: () => unknown): void {
    const fail = (error: unknown): void => this.#fail(stream, error);
    try {
      const served = handle();
      if (served !== undefined) Promise.resolve(served).catch(fail);
    } catch (error) {
      fail(error);
    }
  }

  /** Resets only the stream, without telling the peer why. */
  #fail(stream: SessionStream, error: unknown): void {
    // A handler that awaits its stream rejects with the reason why the stream ended.
    if (stream.isOver && error instanceof VproxyError) return;
    stream.reset('internal', `service ${stream.service} failed`);
    this.#options.onFailed(stream, error);
  }
}

/** The rule of one service on one channel. Omitted limits do not apply. */
export interface ServicePolicy {
  /** Whether the peer may open it at all. Default true. */
  readonly isAllowed?: boolean;
  /** Streams at once; a place is free once the stream and its local end have closed. */
  readonly streams?: number;
  /** Streams opened per second in the long run, with a burst of the same size. */
  readonly opensPerSecond?: number;
  /** Bytes per second in each direction, all streams together. */
  readonly bytesPerSecond?: number;
  /** An idle stream is reset after this time, in milliseconds. */
  readonly idleTimeoutMs?: number;
}

/** What still holds the place of a stream that is over. */
type Ended = Partial<Pick<SessionStream, 'isServed'>>;

/** Applies the policy of one service to its streams. */
export class ServiceGate {
  readonly #policy: ServicePolicy;
  readonly #clock: Clock;
  readonly #opens: TokenBucket | null;
  readonly #pace: StreamPace | null;
  /** If streams are limited: the open ones, and the ended ones whose local ends have not closed. */
  readonly #open = new Set<SessionStream>();
  readonly #ending = new Set<Ended>();
  /** Sessions whose streams are counted, including streams older than this gate. */
  readonly #sessions = new WeakSet<Session>();
  /** Streams with an idle timeout: their byte count, and when it last changed. */
  readonly #watched = new Map<SessionStream, { readonly bytes: number; readonly atMs: number }>();
  #isLooking = false;

  constructor(policy: ServicePolicy, clock: Clock) {
    const { opensPerSecond, bytesPerSecond } = policy;
    this.#policy = policy;
    this.#clock = clock;
    this.#opens =
      opensPerSecond === undefined
        ? null
        : new TokenBucket(opensPerSecond, Math.max(1, Math.floor(opensPerSecond)), clock.now());
    this.#pace =
      bytesPerSecond === undefined
        ? null
        : { send: new Pacer(bytesPerSecond, clock), receive: new Pacer(bytesPerSecond, clock) };
  }

  /** Counts the streams that the replaced gate admitted. */
  adopt(gate: ServiceGate): void {
    for (const stream of gate.#open) this.#count(stream);
    for (const stream of gate.#ending) this.#ending.add(stream);
  }

  /**
   * Returns why a stream from the peer is refused: the code for the peer, `denied` or `too-many-streams`, and the message for
   * this side's log; null admits it, within the other limits.
   */
  admit(stream: SessionStream, session: Session): VproxyError | null {
    const { isAllowed = true, streams, opensPerSecond } = this.#policy;
    if (!isAllowed) return new VproxyError('denied', 'the channel may not open this service');
    if (streams !== undefined && this.#countOthers(stream, session) >= streams)
      return new VproxyError('too-many-streams', `too many streams (max ${streams}, closing ones included)`);
    if (this.#opens?.take(this.#clock.now()) === false)
      return new VproxyError('too-many-streams', `more than ${opensPerSecond} streams a second`);
    this.readmit(stream);
    return null;
  }

  /** Counts, paces and watches a stream that was already admitted. */
  readmit(stream: SessionStream): void {
    const { streams, idleTimeoutMs } = this.#policy;
    if (streams !== undefined) this.#count(stream);
    if (this.#pace !== null) stream.setPace(this.#pace);
    if (idleTimeoutMs !== undefined) {
      this.#watched.set(stream, { bytes: 0, atMs: this.#clock.now() });
      if (!this.#isLooking) this.#look(idleTimeoutMs);
    }
  }

  keepPlace(ended: Ended): void {
    if (this.#policy.streams !== undefined) this.#ending.add(ended);
  }

  #count(stream: SessionStream): void {
    (stream.isOver ? this.#ending : this.#open).add(stream);
    stream.onOver = () => {
      this.#open.delete(stream);
      this.#ending.add(stream);
    };
  }

  /** Other streams of any session that hold a place. Peers choose how often this runs, so it never counts from scratch. */
  #countOthers(stream: SessionStream, session: Session): number {
    if (!this.#sessions.has(session)) {
      this.#sessions.add(session);
      for (const other of session.streams.list())
        if (other.isIncoming && other.service === stream.service && other !== stream) this.#count(other);
    }
    for (const ended of this.#ending) if (ended.isServed?.() !== true) this.#ending.delete(ended);
    return this.#open.size + this.#ending.size;
  }

  /** Checks all streams together, four times per timeout. */
  #look(timeoutMs: number): void {
    this.#isLooking = true;
    this.#clock.schedule(timeoutMs / 4, () => {
      const nowMs = this.#clock.now();
      for (const [stream, seen] of this.#watched) {
        // Bytes that came in and bytes that left again: those that wait for the rate limit pass later.
        const bytes = stream.sentBytes + 2 * stream.receivedBytes - stream.unreadBytes;
        if (stream.isOver) this.#watched.delete(stream);
        else if (bytes !== seen.bytes) this.#watched.set(stream, { bytes, atMs: nowMs });
        else if (nowMs - seen.atMs >= timeoutMs) stream.reset('stalled', `idle for ${timeoutMs / 1000} s`);
      }
      this.#isLooking = false;
      if (this.#watched.size > 0) this.#look(timeoutMs);
    });
  }
}
