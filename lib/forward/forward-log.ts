/** The log events of a forward and its streams, and their count. */
import type { VproxyError } from '../errors.js';
import { type EventFields, type Log, makeEvent } from '../events.js';
import type { Clock } from '../util/clock.js';
import { escapeText } from '../util/escape.js';
import { formatCount } from '../util/units.js';
import type { KnownStream } from './connection.js';
import type { DropCounts } from './datagram/flow-book.js';
import type { InputFilters } from './input-filter.js';
import { StreamTally } from './stream-tally.js';

interface ForwardName {
  readonly direction: 'outgoing' | 'incoming';
  readonly service: string;
}

export interface ForwardOptions {
  /** The id that its streams are reported under. Default null. */
  readonly id?: string | null;
  readonly log: Log;
  readonly clock: Clock;
  /** Counts its streams. Default: its own. */
  readonly tally?: StreamTally;
  /** Filters between streams and their local ends. Default: none. */
  readonly filters?: InputFilters;
  /** Its last open stream has closed. Default: no callback. */
  readonly onIdle?: () => void;
}

export class ForwardLog {
  readonly write: Log;
  readonly tally: StreamTally;
  readonly #spec: ForwardName;
  readonly #clock: Clock;
  readonly #id: string | null;
  readonly #endpointText: () => string;
  /** Connections that the present outage has reset after the first, which the log names; null without one. */
  #resetByOutage: number | null = null;

  /** `endpointText` gives the current address. */
  constructor(
    spec: ForwardName,
    { log, clock, id = null, tally = new StreamTally() }: ForwardOptions,
    endpointText: () => string,
  ) {
    this.write = log;
    this.tally = tally;
    this.#spec = spec;
    this.#clock = clock;
    this.#id = id;
    this.#endpointText = endpointText;
  }

  get #isOutgoing(): boolean {
    return this.#spec.direction === 'outgoing';
  }

  /** The current address and a service (by default the forward's), human-readable. */
  nameOf(service = this.#spec.service): string {
    return `${this.#endpointText()} (${service})`;
  }

  /** The fields of an event of the forward, or of one of its streams. */
  fields<Facts extends object>(facts: Facts, service = this.#spec.service) {
    const { direction } = this.#spec;
    return { forward: this.#id, direction, endpoint: this.#endpointText(), service, ...facts };
  }

  listening(): void {
    const message = `listening on ${this.#endpointText()} for ${this.#spec.service}`;
    this.write(makeEvent('listening', message, this.fields(NO_STREAM)));
  }

  failed(message: string): void {
    this.write(makeEvent('accept-failed', message, this.fields(NO_STREAM)));
  }

  /** The target does not work, for all streams or for one. */
  targetFailed(message: string, stream: KnownStream | null = null): void {
    this.write(makeEvent('target-failed', message, this.fields(stream === null ? NO_STREAM : streamFields(stream))));
  }

  /** A request for a stream was refused. */
  refused(message: string, code: string): void {
    this.tally.countRefused(code);
    this.write(makeEvent('stream-refused', message, this.fields(NO_STREAM), 'warn'));
  }

  /** A connection was reset without a stream. */
  reset(service: string, reason: Pick<VproxyError, 'code' | 'message'>, what = 'connection'): void {
    this.tally.countRefused(reason.code);
    this.#tellReset(service, reason, what, this.fields({ ...NO_STREAM, code: reason.code }));
  }

  #tellReset(
    service: string,
    reason: Pick<VproxyError, 'code' | 'message'>,
    what: string,
    fields: EventFields<'stream-refused'>,
  ): void {
    const message = `a ${what} to ${this.nameOf(service)} was reset: ${reason.message} (${reason.code})`;
    this.write(makeEvent('stream-refused', message, fields, this.#isKnownOutage(reason.code) ? 'debug' : 'warn'));
  }

  /** Messages of flows were dropped. */
  dropped(counts: DropCounts): void {
    const { sendDropped, receiveDropped, systemDropped } = counts;
    const bySystem = systemDropped === 0 ? '' : ` (${systemDropped} by the system: its buffer was full)`;
    const out = sendDropped === 0 ? [] : [`${sendDropped} for the peer${bySystem}`];
    const back = receiveDropped === 0 ? [] : [`${receiveDropped} from the peer`];
    const message = `datagrams dropped at ${this.nameOf()}: ${[...out, ...back].join(', ')}`;
    this.write(makeEvent('datagrams-dropped', message, this.fields(counts)));
  }

  opened(stream: KnownStream): void {
    this.#endOutage();
    this.tally.countOpened(stream, this.#clock.now());
    const { id, from, service } = stream;
    const way = this.#isOutgoing ? `to ${service}` : `from ${escapeText(from ?? 'the peer', 80)} to ${this.nameOf()}`;
    this.write(makeEvent('stream-opened', `stream ${id} ${way} is open`, this.fields(streamFields(stream), service)));
  }

  /** A stream has ended. `what` asked for it. */
  closed(stream: KnownStream, reason: VproxyError | null, wasOpen = true, what = 'connection'): void {
    const { id, service } = stream;
    this.tally.countClosed(stream, reason?.code ?? null);
    const amount = `${stream.sentBytes} bytes sent, ${stream.receivedBytes} received`;
    const fields = this.fields(endedStreamFields(this.#clock.now(), stream, reason ?? {}), service);
    const subject = `stream ${id} to ${this.#isOutgoing ? service : this.nameOf()}`;
    if (reason === null) {
      this.write(makeEvent('stream-closed', `${subject} has ended: ${amount}`, fields));
    } else if (wasOpen) {
      const reset = this.#isOutgoing ? `${subject} was reset` : subject;
      this.write(makeEvent('stream-reset', `${reset}: ${reason.message} (${reason.code}); ${amount}`, fields));
    } else {
      this.#tellReset(service, reason, what, fields);
    }
  }

  /** Whether the log has named this outage: a program that keeps trying would fill it. */
  #isKnownOutage(code: string): boolean {
    if (code !== 'no-session') return false;
    const isKnown = this.#resetByOutage !== null;
    this.#resetByOutage = (this.#resetByOutage ?? -1) + 1;
    return isKnown;
  }

  #endOutage(): void {
    const count = this.#resetByOutage;
    this.#resetByOutage = null;
    if (count === null || count === 0) return;
    const message = `${this.nameOf()} works again; ${formatCount(count, 'more connection')} had been reset without a session`;
    this.write(makeEvent('outage-over', message, this.fields({ count })));
  }
}

/*
 * The fields of a stream's events. Each object is written out, with at most one other spread last: one that begins as a copy
 * and is extended takes fifty times as long to create, and there are two for each stream.
 */

/** How a stream ended: with an error code, or without one in order. */
export interface StreamEnding {
  readonly code?: string | null;
}

/** For events without a stream. */
export const NO_STREAM = { stream: null } as const;

export const streamFields = ({ id, from }: KnownStream) => ({ stream: id, from });

/** The same, with its byte counts, its age at `nowMs`, and its code or null. */
export function endedStreamFields(nowMs: number, stream: KnownStream, { code = null }: StreamEnding) {
  const { id, from, sentBytes, receivedBytes, openedAtMs } = stream;
  return { stream: id, from, sentBytes, receivedBytes, durationMs: Math.round(nowMs - openedAtMs), code };
}
