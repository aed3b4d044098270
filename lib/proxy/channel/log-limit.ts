/** Rate limits for a channel's lines in the log and the audit log, so that peers and local programs cannot fill them. */

import { type EventRate, LOG_EVENTS, type Log, type LogEvent, makeEvent, rateOf } from '../../events.js';
import type { SessionStream } from '../../session/stream.js';
import { TokenBucket } from '../../util/bounds.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { describeError, escapeText, formatJsonLine } from '../../util/escape.js';
import { formatCount } from '../../util/units.js';
import { DEFAULT_LABEL } from './channel-options.js';

/** A rate limit: a burst in bytes, and bytes per second in the long run. */
export interface LogRate {
  readonly burstBytes: number;
  readonly bytesPerSecond: number;
}

/** The rate of one event at one level, and the rate that it shares with others (null for none). */
export interface LogPart {
  readonly rate: LogRate;
  readonly shared: LogRate | null;
}

/*
 * A peer that is refused everywhere causes about fourteen kinds of events, each followed by a line of 330 bytes that counts
 * the suppressed ones. In any second they add at most 64 KiB to both logs: in the log 26 + 4 and 4 + 2 KiB of shared rates,
 * 9 + 1 of sessions and 5 of suppression lines; in the audit log 4 + 2.5, 3 + 0.5 and 3. The long-run rates of all events
 * that share a rate add up to less than it, so that no flood starves another event.
 */
const SHARED: LogRate = { burstBytes: 26_624, bytesPerSecond: 4096 };
const SHARED_DEBUG: LogRate = { burstBytes: 4096, bytesPerSecond: 2048 };
const SHARED_AUDIT: LogRate = { burstBytes: 4096, bytesPerSecond: 2560 };
const REFUSED: LogRate = { burstBytes: 13_312, bytesPerSecond: 256 };
const SESSION_ENDED: LogRate = { burstBytes: 13_312, bytesPerSecond: 1024 };
const SESSION: LogRate = { burstBytes: 9216, bytesPerSecond: 1024 };
const SESSION_AUDIT: LogRate = { burstBytes: 3072, bytesPerSecond: 512 };

/** For permitted actions: about two hundred lines of text at once, and ten a second. */
const ORDINARY: LogRate = { burstBytes: 24_576, bytesPerSecond: 2048 };

/** The same where the user asked for all of them: a burst of about ten thousand lines, and hundreds a second. */
const GENEROUS: LogRate = { burstBytes: 4_194_304, bytesPerSecond: 262_144 };

/** Delay before suppressed lines are reported; doubles each time while suppression continues. */
const TELL_AFTER_MS = { first: 1000, most: 60_000 } as const;

/** Chooses the rates for an event. */
export type PartOf = (event: LogEvent) => LogPart;

/** Rates in a human-readable log. Debug lines appear only where the user asked for them. */
export const logPart: PartOf = (event) => {
  const isDebug = event.level === 'debug';
  const shared = isDebug ? SHARED_DEBUG : SHARED;
  const parts: Readonly<Record<EventRate, LogPart>> = {
    session: { rate: SESSION, shared: null },
    'let-happen': { rate: isDebug ? GENEROUS : ORDINARY, shared: null },
    'session-end': { rate: SESSION_ENDED, shared },
    refused: { rate: REFUSED, shared },
  };
  return parts[rateOf(event)];
};

const AUDIT_PARTS: Readonly<Record<EventRate, LogPart>> = {
  session: { rate: SESSION_AUDIT, shared: null },
  'let-happen': { rate: GENEROUS, shared: null },
  'session-end': { rate: REFUSED, shared: SHARED_AUDIT },
  refused: { rate: REFUSED, shared: SHARED_AUDIT },
};

/** Rates in an audit log. */
export const auditPart: PartOf = (event) => AUDIT_PARTS[rateOf(event)];

/** Returns the bytes that an event takes in a log. */
export type LineBytes = (event: LogEvent) => number;

/** The size in a JSON log. */
export const jsonLineBytes: LineBytes = (event) => Buffer.byteLength(formatJsonLine(event)) + TIME_BYTES;

/** `"time":"2026-11-21T10:03:46.000Z",` and a newline. */
const TIME_BYTES = 36;

/** The limiter state of one event at one level. */
interface Flow extends Pick<LogEvent, 'event' | 'level'> {
  readonly bucket: TokenBucket;
  readonly shared: TokenBucket | null;
  leftOutCount: number;
  leftOutSinceMs: number;
  toldAtMs: number;
  tellAfterMs: number;
}

interface LogLimitOptions {
  readonly log: Log;
  readonly clock: Clock;
  /** Default: the rates of a human-readable log. */
  readonly partOf?: PartOf;
  /** Default: the size in a JSON log. */
  readonly bytesOf?: LineBytes;
  /** Maps an event before it is measured and passed on. Default: identity. */
  readonly named?: (event: LogEvent) => LogEvent;
}

/**
 * Passes on the events of one channel up to their rate limits; `log-limited` reports how many were suppressed. The events
 * must already be bounded (`boundLogEvent`).
 */
export class LogLimit {
  readonly #options: Required<LogLimitOptions>;
  readonly #shared = new Map<LogRate, TokenBucket>();
  /** By level and name, so bounded by the table of events. */
  readonly #flows = new Map<string, Flow>();
  /** The number of suppressed lines. */
  suppressedCount = 0;
  /** One timer for all flows. */
  #cancelTelling: CancelTimer | null = null;

  constructor(options: LogLimitOptions) {
    this.#options = { partOf: logPart, bytesOf: jsonLineBytes, named: (event) => event, ...options };
  }

  /** Logs an event, or counts it as suppressed. */
  log(given: LogEvent): void {
    const event = this.#options.named(given);
    const flow = this.#flowOf(event);
    const bytes = this.#options.bytesOf(event);
    const nowMs = this.#options.clock.now();
    if (this.#hasRoom(flow, bytes, nowMs)) {
      flow.bucket.take(nowMs, bytes);
      flow.shared?.take(nowMs, bytes);
      this.#options.log(event);
      return;
    }
    flow.leftOutCount += 1;
    this.suppressedCount += 1;
    if (flow.leftOutCount === 1) this.#tellLater(flow, nowMs);
  }

  /** Reports all suppressed lines that have not been reported yet. */
  stop(): void {
    this.#tellDue(Number.POSITIVE_INFINITY);
  }

  /** The more an event has used recently, the more it must leave for others, so that no flood uses up the shared rate. */
  #hasRoom({ bucket, shared }: Flow, bytes: number, nowMs: number): boolean {
    return bucket.has(nowMs, bytes) && (shared === null || shared.has(nowMs, bucket.spent(nowMs) + bytes));
  }

  #flowOf(cause: LogEvent): Flow {
    const { event, level } = cause;
    const key = `${level} ${event}`;
    const known = this.#flows.get(key);
    if (known !== undefined) return known;
    const { rate, shared } = this.#options.partOf(cause);
    const flow = {
      ...{ event, level, bucket: this.#bucketOf(rate), shared: shared === null ? null : this.#sharedOf(shared) },
      ...{ leftOutCount: 0, leftOutSinceMs: 0, toldAtMs: Number.NEGATIVE_INFINITY, tellAfterMs: 0 },
    };
    this.#flows.set(key, flow);
    return flow;
  }

  /** Restarts with the shortest delay after a pause without suppression. */
  #tellLater(flow: Flow, nowMs: number): void {
    const hasPaused = nowMs - flow.toldAtMs > flow.tellAfterMs;
    flow.tellAfterMs = hasPaused ? TELL_AFTER_MS.first : Math.min(2 * flow.tellAfterMs, TELL_AFTER_MS.most);
    flow.leftOutSinceMs = nowMs;
    this.#schedule();
  }

  /** Schedules the timer for the earliest report that is due. */
  #schedule(): void {
    this.#cancelTelling?.();
    this.#cancelTelling = null;
    const nextMs = Math.min(...this.#leavingOut().map(dueMs));
    if (nextMs === Number.POSITIVE_INFINITY) return;
    const delayMs = Math.max(0, nextMs - this.#options.clock.now());
    this.#cancelTelling = this.#options.clock.schedule(delayMs, () => this.#tellDue(this.#options.clock.now()));
  }

  #leavingOut(): Flow[] {
    return [...this.#flows.values()].filter(({ leftOutCount }) => leftOutCount > 0);
  }

  #tellDue(untilMs: number): void {
    for (const flow of this.#leavingOut()) if (dueMs(flow) <= untilMs) this.#tell(flow);
    this.#schedule();
  }

  #tell(flow: Flow): void {
    const { event: kind, level, leftOutCount: count } = flow;
    flow.leftOutCount = 0;
    flow.toldAtMs = this.#options.clock.now();
    const durationMs = Math.round(flow.toldAtMs - flow.leftOutSinceMs);
    const span = `within ${(durationMs / 1000).toFixed(1)} s`;
    const message = `${formatCount(count, `more ${kind} line`)} suppressed ${span}: too many`;
    this.#options.log(this.#options.named(makeEvent('log-limited', message, { kind, count, durationMs }, level)));
  }

  #sharedOf(rate: LogRate): TokenBucket {
    const bucket = this.#shared.get(rate) ?? this.#bucketOf(rate);
    this.#shared.set(rate, bucket);
    return bucket;
  }

  #bucketOf({ burstBytes, bytesPerSecond }: LogRate): TokenBucket {
    return new TokenBucket(bytesPerSecond, burstBytes, this.#options.clock.now());
  }
}

/** When the suppressed lines of a flow are due to be reported. */
const dueMs = ({ leftOutSinceMs, tellAfterMs }: Flow): number => leftOutSinceMs + tellAfterMs;

// Bounding events: no more of a peer's texts than a line has room for.

/** Limits on the texts of an event's fields, in bytes as JSON; higher for permitted actions, which deserve more detail. */
const MAX_FIELDS_BYTES = { letHappen: 4096, other: 1024 } as const;

/** Cuts an event's texts to what its line has room for. */
export function boundLogEvent(event: LogEvent): LogEvent {
  return boundEvent(event, rateOf(event) === 'let-happen' ? MAX_FIELDS_BYTES.letHappen : MAX_FIELDS_BYTES.other);
}

/** The longest message, in bytes as JSON, and how much of its end is kept, where the error code is. */
const MAX_MESSAGE_BYTES = 512;
const MESSAGE_END_LENGTH = 96;

/** The most bytes that a character takes in JSON: escaped as `\uXXXX`. */
const MAX_CHARACTER_BYTES = 6;

type Field = LogEvent['fields'][string];

/**
 * Cuts the texts of an event, whatever their source, so that all its fields together take at most `maxFieldsBytes` as JSON.
 * An ellipsis marks a cut text, and a count ends a cut list. The longest texts are cut first, so that short ones such as
 * codes stay whole.
 */
export function boundEvent(event: LogEvent, maxFieldsBytes: number): LogEvent {
  let length = 0;
  for (const key in event.fields) length += textLength(event.fields[key] ?? null);
  if (isSurelyWithin(length, maxFieldsBytes) && isSurelyWithin(event.message.length, MAX_MESSAGE_BYTES)) return event;
  let roomBytes = maxFieldsBytes;
  const cut = (text: string): string => {
    const kept = cutText(text, roomBytes);
    // Plus the comma.
    roomBytes -= jsonBytes(kept) + 1;
    return kept;
  };
  const cutList = (texts: readonly string[]): readonly string[] => {
    const kept: string[] = [];
    for (const text of texts) {
      if (roomBytes <= 0) return [...kept, `… ${texts.length - kept.length} more`];
      kept.push(cut(text));
    }
    return kept;
  };
  // Keeps the order of the keys.
  const fields: Record<string, Field> = { ...event.fields };
  const entries = Object.entries(event.fields);
  for (const [key, value] of entries.toSorted(([, one], [, other]) => textLength(one) - textLength(other))) {
    if (typeof value === 'string') fields[key] = cut(value);
    else if (value !== null && typeof value === 'object') fields[key] = cutList(value);
  }
  return { ...event, message: cutMessage(event.message), fields };
}

/** The number of characters of a field's texts, plus two for each for the comma and the quotes. */
function textLength(value: Field): number {
  if (typeof value === 'string') return value.length + 2;
  if (value === null || typeof value !== 'object') return 0;
  return value.reduce((sum, text) => sum + text.length + 2, 0);
}

/** Whether a text of this length fits, whatever its characters are. */
const isSurelyWithin = (length: number, maxBytes: number): boolean => length * MAX_CHARACTER_BYTES <= maxBytes;

function cutMessage(message: string): string {
  if (jsonBytes(message) <= MAX_MESSAGE_BYTES) return message;
  const end = message.slice(-MESSAGE_END_LENGTH);
  return `${cutText(message, MAX_MESSAGE_BYTES - jsonBytes(end))}${end}`;
}

function cutText(text: string, maxBytes: number): string {
  // A character takes at least a byte, so anything beyond that length cannot fit.
  let kept = text.slice(0, Math.max(0, maxBytes));
  while (jsonBytes(kept) > maxBytes && kept !== '') kept = kept.slice(0, Math.floor(kept.length * 0.75));
  return kept.length === text.length ? text : `${kept}…`;
}

const jsonBytes = (value: unknown): number => Buffer.byteLength(formatJsonLine(value));

interface ChannelLogOptions {
  readonly label: string;
  readonly clock: Clock;
  /** Returns the bytes that an event takes in the log. */
  readonly lineBytes: LineBytes;
  /** The log and the audit log of the proxy. */
  readonly log: Log;
  readonly audit: Log;
  /** Whether anything listens to the audit log. */
  readonly isAuditing: () => boolean;
}

/** The log of one channel: its events, labelled and rate-limited. */
export class ChannelLog {
  readonly #log: LogLimit;
  readonly #audit: LogLimit;
  readonly #isAuditing: () => boolean;

  constructor({ label, clock, lineBytes, log, audit, isAuditing }: ChannelLogOptions) {
    const prefix = label === DEFAULT_LABEL ? '' : `${label}: `;
    const named = ({ level, event, message, fields }: LogEvent): LogEvent => {
      return { level, event, message: `${prefix}${message}`, fields: { channel: label, ...fields } };
    };
    this.#isAuditing = isAuditing;
    this.#log = new LogLimit({ log, clock, named, partOf: logPart, bytesOf: lineBytes });
    this.#audit = new LogLimit({ log: audit, clock, named, partOf: auditPart });
  }

  readonly log: Log = (given) => {
    const event = boundLogEvent(given);
    if (LOG_EVENTS[event.event].isAudited && this.#isAuditing()) this.#audit.log(event);
    this.#log.log(event);
  };

  get suppressed() {
    return { log: this.#log.suppressedCount, audit: this.#audit.suppressedCount };
  }

  /** Reports all suppressed lines that have not been reported yet. */
  stop(): void {
    this.#log.stop();
    this.#audit.stop();
  }
}

/** Logs the peer's streams that no service serves; `count` counts them by service and code. */
export const logRefusals = (log: Log, count: (service: string, code: string) => void) => ({
  onDenied({ id, service, from }: SessionStream, why: string): void {
    const message = `stream from ${escapeText(from ?? 'the peer', 80)} to ${service} denied: ${why}`;
    log(makeEvent('stream-denied', message, { service, stream: id, from, why }));
    count(service, 'denied');
  },
  onUnknown({ id, service, from }: SessionStream, why: string): void {
    const message = `stream from ${escapeText(from ?? 'the peer', 80)} to ${service} refused: ${why}`;
    const fields = { direction: 'incoming', service, stream: id, from, code: 'unknown-service' };
    log(makeEvent('stream-refused', message, fields, 'debug'));
    count(service, 'unknown-service');
  },
  onFailed({ id, service }: SessionStream, error: unknown): void {
    const message = `service ${service} failed on stream ${id}: ${escapeText(describeError(error), 200)}`;
    log(makeEvent('service-failed', message, { service, stream: id }));
  },
});
