/** What happened on a channel, counted for the metrics. Not handed over: the counters of a successor begin at 0. */
import { PORT_SERVICE } from '../codec/limits.js';
import { countedCode } from '../errors.js';
import type { EventFields, LogEvent, LogEventName } from '../events.js';
import type { Direction } from '../forward/forms/endpoint-form.js';
import { StreamTally } from '../forward/stream-tally.js';
import { CallTally, Histogram, LATENCY_SECONDS, type Labels } from '../util/tally.js';
import { CALL_KINDS, type CallKind } from './totals.js';

/** Numbers of lines that are in neither log. */
export type LostLines = Readonly<Record<'log' | 'audit', number>>;

/** A call that has ended, as an event reports it. */
interface Call {
  readonly kind: CallKind;
  readonly labels: Labels;
  /** In milliseconds; null if it was refused. */
  readonly durationMs: number | null;
}

/** `ok` for exit status 0, `failed` for any other. */
const byStatus = (status: number | null): string => (status === 0 ? 'ok' : 'failed');

const byCode = (code: string | null): string => (code === null ? 'ok' : countedCode(code));

/** The calls among the events. */
const CALLS: { readonly [Name in LogEventName]?: (fields: EventFields<Name>) => Call } = {
  'storage-call': ({ status, code, durationMs }) => {
    return { kind: 'storage', labels: { result: code === null ? byStatus(status) : byCode(code) }, durationMs };
  },
  'exec-ended': ({ status, signal, timedOut, durationMs }) => {
    const result = timedOut ? 'timeout' : signal === null ? byStatus(status) : 'signal';
    return { kind: 'exec', labels: { result }, durationMs };
  },
  'exec-refused': ({ code }) => ({ kind: 'exec', labels: { result: byCode(code) }, durationMs: null }),
  'copy-ended': ({ direction, code, durationMs }) => {
    return { kind: 'copy', labels: { direction, result: byCode(code) }, durationMs };
  },
  'copy-refused': ({ direction, code }) => {
    return { kind: 'copy', labels: { direction, result: byCode(code) }, durationMs: null };
  },
  egress: ({ egress, durationMs }) => ({ kind: 'egress', labels: { egress, verdict: 'allowed' }, durationMs }),
  'egress-refused': ({ egress, reason }) => {
    return { kind: 'egress', labels: { egress, verdict: reason }, durationMs: null };
  },
};

/** The counters of one service, in one direction. */
interface ServiceTally {
  readonly labels: { readonly direction: Direction; readonly service: string };
  readonly streams: StreamTally;
}

/** The service under which the streams to all listening ports of a machine are counted. */
const PORTS = 'port.*';

/** The service under which requests for services that no configuration names are counted. */
const UNKNOWN = 'other';

export class ChannelTally {
  readonly roundTrips = new Histogram(LATENCY_SECONDS);
  readonly calls: Readonly<Record<CallKind, CallTally>>;
  readonly #services = new Map<string, ServiceTally>();

  readonly #suppressed: () => LostLines;

  /** `suppressed` returns the number of suppressed lines of each log. */
  constructor(suppressed: () => LostLines) {
    this.#suppressed = suppressed;
    const kinds = Object.keys(CALL_KINDS) as CallKind[];
    this.calls = Object.fromEntries(kinds.map((kind) => [kind, new CallTally()])) as Record<CallKind, CallTally>;
  }

  /** The counters of a service that a forward or a rule names; null for one that only the peer named. */
  streamsOf(direction: Direction, service: string | null): StreamTally {
    const name = this.#nameOf(service);
    const key = `${direction} ${name}`;
    const known = this.#services.get(key) ?? { labels: { direction, service: name }, streams: new StreamTally() };
    this.#services.set(key, known);
    return known.streams;
  }

  #nameOf(service: string | null): string {
    if (service === null) return UNKNOWN;
    return PORT_SERVICE.test(service) ? PORTS : service;
  }

  get suppressedLines(): LostLines {
    return this.#suppressed();
  }

  get services(): ServiceTally[] {
    return [...this.#services.values()];
  }

  /** Counts the call that an event reports, if any. */
  record({ event, fields }: LogEvent): void {
    const callOf = CALLS[event] as ((fields: LogEvent['fields']) => Call) | undefined;
    if (callOf === undefined) return;
    const { kind, labels, durationMs } = callOf(fields);
    this.calls[kind].add(labels, durationMs);
  }
}
