/**
 * The metrics of a process for Prometheus. Labels are channel labels, services and egresses of the configuration, and fixed
 * words, never text from a peer, which could create any number of series. Loads no schemas, as `--metrics` needs none.
 */
import type { StreamTally } from '../../forward/stream-tally.js';
import type { ChannelMeasures } from '../../proxy/channel/channel-sessions.js';
import type { MeasuredChannel } from '../../proxy/proxy-options.js';
import type { Session } from '../../session/session.js';
import type { ChannelTally } from '../../status/channel-tally.js';
import { CHANNEL_STATES } from '../../status/describe.js';
import { CALL_KINDS, type CallKind, CHANNEL_TOTALS } from '../../status/totals.js';
import type { ChannelTotals, PortStatus } from '../../status/types.js';
import type { Clock } from '../../util/clock.js';
import { LoopTurns } from '../../util/concurrency.js';
import type { CallTally, Tally } from '../../util/tally.js';
import type { ControlContext } from './context.js';
import { labelText, METRICS_TYPE, type Metric, MetricsText } from './metrics-text.js';
import { addProcessMetrics } from './process-metrics.js';

interface MetricsContext {
  readonly proxy: { listMeasured(): readonly MeasuredChannel[] };
  readonly process: Pick<ControlContext['process'], 'version' | 'lostLines'>;
}

/** The body of `GET /metrics`, made in turns of the event loop: a host may have hundreds of channels. */
export async function describeMetrics({ proxy, process }: MetricsContext): Promise<Buffer> {
  const text = new MetricsText();
  const turns = new LoopTurns();
  addProcessMetrics(text, process);
  for (const measured of proxy.listMeasured()) await turns.run(() => addMeasured(text, measured));
  return text.bytes;
}

function addMeasured(text: MetricsText, measured: MeasuredChannel): void {
  const channel = labelText({ channel: measured.label });
  addChannel(text, channel, measured.sessions.measure());
  addForwards(text, channel, measured.forwards);
  addPorts(text, channel, measured.ports.list());
  addTally(text, channel, measured.tally);
}

/** Cache lifetime of a page: making one can be expensive, and anyone may request it. */
const PAGE_MS = 1000;

/** The page for anyone who can connect; it is at most a second old. */
export class MetricsPage {
  readonly #context: MetricsContext;
  readonly #clock: Clock;
  #page: Promise<Buffer> = Promise.resolve(Buffer.alloc(0));
  #madeAtMs = Number.NEGATIVE_INFINITY;

  constructor(context: MetricsContext, clock: Clock) {
    this.#context = context;
    this.#clock = clock;
  }

  async answer() {
    const nowMs = this.#clock.now();
    if (nowMs - this.#madeAtMs >= PAGE_MS) {
      this.#page = describeMetrics(this.#context);
      this.#madeAtMs = nowMs;
    }
    return { status: 200, type: METRICS_TYPE, body: await this.#page };
  }
}

const metric = (type: Metric['type'], name: string, help: string): Metric => ({ name: `vproxy_${name}`, type, help });

// ---- channels -----------------------------------------------------------------------------------------------------------

const STATE = metric('gauge', 'channel_state', '1 for the current state of the channel, 0 for the others.');
const STATES = CHANNEL_STATES.map((state) => ({ state, labels: `,state="${state}"` }));
const SESSION_ENDS = metric('counter', 'channel_session_ends_total', 'Sessions ended, by code of the reason.');

type ChannelMetric = Metric & { readonly look: (channel: ChannelMeasures) => number | null };

const ofChannel = (type: Metric['type'], name: string, help: string, look: ChannelMetric['look']): ChannelMetric => ({
  ...metric(type, `channel_${name}`, help),
  look,
});

/** A metric that exists during a session. */
const ofSession = (name: string, help: string, look: (session: Session) => number | null): ChannelMetric =>
  ofChannel('gauge', name, help, ({ session }) => session && look(session));

/** `sent_bytes_total` for `sentBytes`, in seconds for a time in milliseconds. */
function ofTotal(key: keyof ChannelTotals): ChannelMetric {
  const words = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const isTime = words.endsWith('_ms');
  const name = isTime ? `${words.slice(0, -'ms'.length)}seconds_total` : `${words}_total`;
  const scale = isTime ? 1000 : 1;
  return ofChannel('counter', name, `${CHANNEL_TOTALS[key]}.`, ({ totals }) => totals[key] / scale);
}

/** The metrics with one series for each channel for which `look` returns a number. */
const CHANNEL_METRICS: readonly ChannelMetric[] = [
  ofChannel('counter', 'sessions_total', 'Sessions established.', ({ record }) => record.sessions),
  ...(Object.keys(CHANNEL_TOTALS) as (keyof ChannelTotals)[]).map(ofTotal),
  ofChannel('gauge', 'streams', 'Open streams.', ({ session }) => session?.streams.size ?? 0),
  ofSession('session_age_seconds', 'Age of the current session.', ({ ageMs }) => Math.round(ageMs) / 1000),
  ofSession('round_trip_seconds', 'Last measured round trip to the peer.', ({ roundTripMs }) =>
    roundTripMs === null ? null : roundTripMs / 1000,
  ),
  ofSession(
    'silent_seconds',
    'Seconds since the last byte from the peer if its answer is overdue, otherwise 0.',
    ({ overdueMs }) => Math.round(overdueMs ?? 0) / 1000,
  ),
  ofSession(
    'send_credit_bytes',
    'Bytes that may be sent before the peer grants more credit.',
    ({ sendCreditBytes }) => sendCreditBytes,
  ),
  ofSession(
    'unwritten_bytes',
    'Bytes queued for the channel and not yet written.',
    ({ unwrittenBytes }) => unwrittenBytes,
  ),
];

function addChannel(text: MetricsText, channel: string, measures: ChannelMeasures): void {
  const { name, ends } = measures.record;
  for (const { state, labels } of STATES) text.add(STATE, channel + labels, state === name ? 1 : 0);
  for (const each of CHANNEL_METRICS) {
    const value = each.look(measures);
    if (value !== null) text.add(each, channel, value);
  }
  for (const [code, count] of ends) text.add(SESSION_ENDS, `${channel},${labelText({ code })}`, count);
}

// ---- forwards and ports -------------------------------------------------------------------------------------------------

const FORWARDS = metric('gauge', 'channel_forwards', 'Forwards of the channel, including draining ones.');
const DATAGRAMS = metric('counter', 'forward_datagrams_total', 'Datagrams sent to the peer or received from it.');
const DROPPED = metric(
  'counter',
  'forward_datagrams_dropped_total',
  'Datagrams to or from the peer dropped on this side.',
);
const PORTS = metric('gauge', 'channel_ports', 'Ports announced by this side or by the peer.');

function addForwards(text: MetricsText, channel: string, forwards: MeasuredChannel['forwards']): void {
  text.add(FORWARDS, channel, forwards.count);
  for (const { id, messages } of forwards.listMessages()) {
    const { sent, received, sendDropped, receiveDropped } = messages;
    const labels = `${channel},forward="${id}"`;
    text.add(DATAGRAMS, `${labels},direction="sent"`, sent);
    text.add(DATAGRAMS, `${labels},direction="received"`, received);
    text.add(DROPPED, `${labels},direction="sent"`, sendDropped);
    text.add(DROPPED, `${labels},direction="received"`, receiveDropped);
  }
}

function addPorts(text: MetricsText, channel: string, ports: readonly PortStatus[]): void {
  const here = ports.filter(({ announcedBy }) => announcedBy === 'here').length;
  text.add(PORTS, `${channel},side="here"`, here);
  text.add(PORTS, `${channel},side="peer"`, ports.length - here);
}

// ---- what happened --------------------------------------------------------------------------------------------------------

const ROUND_TRIPS = metric('histogram', 'channel_round_trips_seconds', 'Round trips to the peer.');
const SUPPRESSED = metric(
  'counter',
  'channel_log_lines_suppressed_total',
  'Lines beyond the rate limits of the log or of the audit log.',
);
type ServiceMetric = Metric & { readonly look: (streams: StreamTally) => number };

const ofService = (type: Metric['type'], name: string, help: string, look: ServiceMetric['look']): ServiceMetric => ({
  ...metric(type, `service_${name}`, help),
  look,
});

const SERVICE_METRICS: readonly ServiceMetric[] = [
  ofService('counter', 'streams_total', 'Streams opened for the forwards of a service.', ({ opened }) => opened),
  ofService('gauge', 'open_streams', 'Open streams of the forwards of a service.', ({ openCount }) => openCount),
  ofService(
    'counter',
    'sent_bytes_total',
    'Bytes sent to the peer by the forwards of a service.',
    ({ sentBytes }) => sentBytes,
  ),
  ofService(
    'counter',
    'received_bytes_total',
    'Bytes received from the peer by the forwards of a service.',
    ({ receivedBytes }) => receivedBytes,
  ),
];
const REFUSALS = metric('counter', 'service_refusals_total', 'Streams refused, by code of the reason.');
const RESETS = metric('counter', 'service_resets_total', 'Streams reset after they were open, by code of the reason.');
const CONNECTING = metric(
  'histogram',
  'service_connect_seconds',
  'Time from the request for a stream to the answer of its target.',
);
const QUESTIONS = metric('counter', 'resolver_questions_total', 'Answered DNS questions, by response code.');
const ANSWERING = metric('histogram', 'resolver_answer_seconds', 'Time to the answer of a DNS question.');

const CALLS = Object.entries(CALL_KINDS).map(([kind, { total, seconds, what }]) => ({
  kind: kind as CallKind,
  total: metric('counter', total, `${what}, by result.`),
  seconds: metric('histogram', seconds, `Duration of ${what[0]?.toLowerCase()}${what.slice(1)}.`),
}));

function addTally(text: MetricsText, channel: string, tally: ChannelTally): void {
  text.addHistogram(ROUND_TRIPS, channel, tally.roundTrips);
  for (const [log, count] of Object.entries(tally.suppressedLines))
    text.add(SUPPRESSED, `${channel},log="${log}"`, count);
  for (const { labels: service, streams } of tally.services) {
    const labels = `${channel},${labelText(service)}`;
    for (const each of SERVICE_METRICS) text.add(each, labels, each.look(streams));
    addCounts(text, REFUSALS, labels, streams.refusals);
    addCounts(text, RESETS, labels, streams.resets);
    text.addHistogram(CONNECTING, labels, streams.connecting);
    addCalls(text, QUESTIONS, ANSWERING, labels, streams.questions);
  }
  for (const { kind, total, seconds } of CALLS) addCalls(text, total, seconds, channel, tally.calls[kind]);
}

function addCalls(text: MetricsText, total: Metric, seconds: Metric, labels: string, calls: CallTally): void {
  addCounts(text, total, labels, calls.results);
  text.addHistogram(seconds, labels, calls.durations);
}

function addCounts(text: MetricsText, metric: Metric, labels: string, tally: Tally): void {
  for (const each of tally.list()) text.add(metric, `${labels},${labelText(each.labels)}`, each.count);
}
