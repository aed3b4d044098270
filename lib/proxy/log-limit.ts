/** Keeps what peers and local programs can cause, again and again, from filling a log. */
import { TokenBucket } from '../session/token-bucket.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { boundEvent, eventBytes, type Log, type LogEvent } from '../util/log-event.js';

/** How much is written: in bytes at once, and in bytes a second in the long run. */
export interface LogRate {
  readonly burstBytes: number;
  readonly bytesPerSecond: number;
}

/**
 * A peer that is let in nowhere causes about fourteen kinds of events. In no second do these fill more than 32 KiB of one
 * log: all kinds but `session-established` share `REFUSED_TOGETHER`, where each has its part whatever the others do, and
 * each kind has a line of 400 bytes that says what was left out.
 */
const REFUSED: LogRate = { burstBytes: 6144, bytesPerSecond: 512 };
const REFUSED_TOGETHER: LogRate = { burstBytes: 12_288, bytesPerSecond: 7168 };

/** What was let happen: some hundred lines at once, and some ten a second. */
const ORDINARY: LogRate = { burstBytes: 49_152, bytesPerSecond: 6144 };

/** The same where somebody asked for all of it: some ten thousand lines at once, and hundreds a second. */
const GENEROUS: LogRate = { burstBytes: 4_194_304, bytesPerSecond: 262_144 };

/** What a peer was let do, and how it ended: no number of refusals takes the place of these. */
const LET_HAPPEN: ReadonlySet<string> = new Set([
  'session-established',
  'stream-opened',
  'stream-closed',
  'stream-reset',
  'storage-call',
  'exec-started',
  'exec-ended',
  'copy-started',
  'copy-ended',
]);

/** The texts of an event's fields, in bytes as JSON: of what was let happen there is more to be known. */
const MAX_FIELDS_BYTES = { letHappen: 4096, other: 1024 } as const;

/** How long lines are left out before it is said how many they were: doubled each time, while it goes on. */
const TELL_AFTER_MS = { first: 1000, most: 60_000 } as const;

/** The rate that an event has for itself; null for those that share one. */
export type RateOf = (event: LogEvent) => LogRate | null;

/** Whether an event is about what was let happen, and not about what was refused, or failed with the peer's word. */
export const wasLetHappen = ({ event, level }: LogEvent): boolean =>
  LET_HAPPEN.has(event) && !(event === 'storage-call' && level === 'warn');

/** An event with no more of a peer's texts than its line has room for. */
export const boundLogEvent = (event: LogEvent): LogEvent =>
  boundEvent(event, wasLetHappen(event) ? MAX_FIELDS_BYTES.letHappen : MAX_FIELDS_BYTES.other);

/** In a log for people; its debug lines somebody has asked for. */
export const logRate: RateOf = (event) => {
  if (event.event === 'session-established') return REFUSED;
  if (!wasLetHappen(event)) return null;
  return event.level === 'debug' ? GENEROUS : ORDINARY;
};

/** In an audit log. */
export const auditRate: RateOf = (event) => {
  if (event.event === 'session-established') return REFUSED;
  return wasLetHappen(event) ? GENEROUS : null;
};

/** What is known of one event of one level. */
interface Flow extends Pick<LogEvent, 'event' | 'level'> {
  readonly bucket: TokenBucket;
  readonly isShared: boolean;
  leftOutCount: number;
  leftOutSinceMs: number;
  toldAtMs: number;
  tellAfterMs: number;
  cancelTelling: CancelTimer | null;
}

/**
 * Hands the events of one channel on, except for those that come too fast; `log-limited` says how many were left out. What
 * comes has to be bounded already (`boundLogEvent`).
 */
export class LogLimit {
  readonly #log: Log;
  readonly #clock: Clock;
  readonly #rateOf: RateOf;
  readonly #together: TokenBucket;
  /** By level and name: as many as there are events. */
  readonly #flows = new Map<string, Flow>();

  constructor(log: Log, clock: Clock, rateOf: RateOf = logRate) {
    this.#log = log;
    this.#clock = clock;
    this.#rateOf = rateOf;
    this.#together = bucketOf(REFUSED_TOGETHER, clock);
  }

  /** Logs an event, or counts it. */
  log(event: LogEvent): void {
    const flow = this.#flowOf(event);
    const bytes = eventBytes(event);
    const nowMs = this.#clock.now();
    if (this.#hasRoom(flow, bytes, nowMs)) {
      flow.bucket.take(nowMs, bytes);
      if (flow.isShared) this.#together.take(nowMs, bytes);
      this.#log(event);
      return;
    }
    if (flow.cancelTelling === null) this.#tellLater(flow, nowMs);
    flow.leftOutCount += 1;
  }

  /** Says now what was left out and not told yet. */
  stop(): void {
    for (const flow of this.#flows.values()) if (flow.cancelTelling !== null) this.#tell(flow);
  }

  /** The more an event has taken of late, the more it has to leave for others, so that no flood takes all that is shared. */
  #hasRoom({ bucket, isShared }: Flow, bytes: number, nowMs: number): boolean {
    return bucket.has(nowMs, bytes) && (!isShared || this.#together.has(nowMs, bucket.spent(nowMs) + bytes));
  }

  #flowOf(cause: LogEvent): Flow {
    const { event, level } = cause;
    const key = `${level} ${event}`;
    const known = this.#flows.get(key);
    if (known !== undefined) return known;
    const rate = this.#rateOf(cause);
    const flow = {
      ...{ event, level, bucket: bucketOf(rate ?? REFUSED, this.#clock), isShared: rate === null },
      ...{ leftOutCount: 0, leftOutSinceMs: 0, toldAtMs: 0, tellAfterMs: 0, cancelTelling: null },
    };
    this.#flows.set(key, flow);
    return flow;
  }

  /** Behind a pause in which nothing was left out it begins anew with the shortest time. */
  #tellLater(flow: Flow, nowMs: number): void {
    const hasPaused = nowMs - flow.toldAtMs > flow.tellAfterMs;
    flow.tellAfterMs = hasPaused ? TELL_AFTER_MS.first : Math.min(2 * flow.tellAfterMs, TELL_AFTER_MS.most);
    flow.leftOutSinceMs = nowMs;
    flow.cancelTelling = this.#clock.schedule(flow.tellAfterMs, () => this.#tell(flow));
  }

  #tell(flow: Flow): void {
    const { event: kind, level, leftOutCount: count } = flow;
    flow.cancelTelling?.();
    flow.cancelTelling = null;
    flow.leftOutCount = 0;
    flow.toldAtMs = this.#clock.now();
    const durationMs = Math.round(flow.toldAtMs - flow.leftOutSinceMs);
    const span = `within ${(durationMs / 1000).toFixed(1)} s`;
    const message = `and ${count} more lines of the kind ${kind} were left out ${span}: they came too fast`;
    this.#log({ level, event: 'log-limited', message, fields: { kind, count, durationMs } });
  }
}

const bucketOf = ({ burstBytes, bytesPerSecond }: LogRate, clock: Clock): TokenBucket =>
  new TokenBucket(bytesPerSecond, burstBytes, clock.now());
