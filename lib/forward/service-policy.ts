/** What a peer may do with a service of this side, and the gate that sees to it. */
import { RateLimit, type StreamPace } from '../session/rate-limit.js';
import type { Session } from '../session/session.js';
import type { SessionStream } from '../session/session-stream.js';
import { TokenBucket } from '../session/token-bucket.js';
import type { Clock } from '../util/clock.js';

/** The rule of one service on one channel. What is not given is not bounded. */
export interface ServicePolicy {
  /** Whether the peer may open it at all. Default true. */
  readonly isAllowed?: boolean;
  /** Streams at once: a place is free when the stream has ended, and its local end is done with. */
  readonly streams?: number;
  /** Streams opened a second, in the long run; as many at once. */
  readonly opensPerSecond?: number;
  /** Bytes a second, each way, all streams together. */
  readonly bytesPerSecond?: number;
  /** A stream over which nothing has passed for so long is reset, in milliseconds. */
  readonly idleTimeoutMs?: number;
}

/** Judges the streams to one service. */
export class ServiceGate {
  readonly #policy: ServicePolicy;
  readonly #clock: Clock;
  readonly #opens: TokenBucket | null;
  readonly #pace: StreamPace | null;
  /** Where there is a bound on them: the streams that were let in, until their places are free. */
  readonly #admitted = new Set<SessionStream>();
  /** The streams that may be idle, with how much had passed when that was seen last to change. */
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
        : { send: new RateLimit(bytesPerSecond, clock), receive: new RateLimit(bytesPerSecond, clock) };
  }

  /** Counts what is still ending of the streams that another gate, whose place this one takes, let in. */
  takeOver(gate: ServiceGate): void {
    for (const stream of gate.#admitted) this.#admitted.add(stream);
  }

  /** Why a stream that the peer opens is refused, for this side's log; null lets it in, within the other bounds. */
  admit(stream: SessionStream, session: Session): string | null {
    const { isAllowed = true, streams, opensPerSecond, idleTimeoutMs } = this.#policy;
    if (!isAllowed) return 'the channel may not open this service';
    if (streams !== undefined && countOthers(stream, session) + this.#countEnding() >= streams)
      return `${streams} streams are open already, or their local ends are not done with`;
    if (this.#opens?.take(this.#clock.now()) === false) return `more than ${opensPerSecond} streams a second`;
    if (streams !== undefined) this.#admitted.add(stream);
    if (this.#pace !== null) stream.setPace(this.#pace);
    if (idleTimeoutMs !== undefined) {
      this.#watched.set(stream, { bytes: 0, atMs: this.#clock.now() });
      if (!this.#isLooking) this.#look(idleTimeoutMs);
    }
    return null;
  }

  /** The streams, of any session, that are over and whose local ends are not done with. */
  #countEnding(): number {
    let count = 0;
    for (const stream of this.#admitted) {
      if (!stream.isOver) continue;
      if (stream.isServed()) count += 1;
      else this.#admitted.delete(stream);
    }
    return count;
  }

  /** Looks at all streams together, four times in a time-out. */
  #look(timeoutMs: number): void {
    this.#isLooking = true;
    this.#clock.schedule(timeoutMs / 4, () => {
      const nowMs = this.#clock.now();
      for (const [stream, seen] of this.#watched) {
        // What came and what left again: bytes that wait for the rate pass later.
        const bytes = stream.sentBytes + 2 * stream.receivedBytes - stream.heldBytes;
        if (stream.isOver) this.#watched.delete(stream);
        else if (bytes !== seen.bytes) this.#watched.set(stream, { bytes, atMs: nowMs });
        else if (nowMs - seen.atMs >= timeoutMs) stream.reset('stalled', `nothing passed for ${timeoutMs / 1000} s`);
      }
      this.#isLooking = false;
      if (this.#watched.size > 0) this.#look(timeoutMs);
    });
  }
}

const countOthers = (stream: SessionStream, session: Session): number =>
  session.listStreams().filter((other) => other.isIncoming && other.service === stream.service && other !== stream)
    .length;
