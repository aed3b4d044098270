/**
 * The metrics of a process for Prometheus. Labels are channel labels and fixed words, never text from a peer, which could
 * create any number of series. Loads no schemas, as `--metrics` needs none.
 */
import { performance } from 'node:perf_hooks';
import { CHANNEL_STATES } from '../../status/describe.js';
import { CHANNEL_TOTALS } from '../../status/totals.js';
import type {
  ChannelStatus,
  ChannelTotals,
  DatagramCounts,
  ForwardStatus,
  PortStatus,
  SessionStatus,
} from '../../status/types.js';
import type { Clock } from '../../util/clock.js';
import type { ControlContext } from './context.js';

/** The source of the metrics. */
interface MetricsContext {
  readonly proxy: Pick<ControlContext['proxy'], 'listChannels' | 'listForwards' | 'listPorts'>;
  readonly process: Pick<ControlContext['process'], 'version'>;
}

/** The body of `GET /metrics`. */
export function describeMetrics({ proxy, process }: MetricsContext): string {
  const channels = proxy.listChannels();
  const forwards = proxy.listForwards();
  return formatMetrics([
    ...processMetrics(process.version),
    ...channelMetrics(channels),
    forwardMetric(channels, forwards),
    ...datagramMetrics(forwards),
    portMetric(channels, proxy.listPorts()),
  ]);
}

/** Cache lifetime of a page: making one can be expensive, and anyone may request it. */
const PAGE_MS = 1000;

/** The page for anyone who can connect; it is at most a second old. */
export class MetricsPage {
  readonly #context: MetricsContext;
  readonly #clock: Clock;
  #page = Buffer.alloc(0);
  #madeAtMs = Number.NEGATIVE_INFINITY;

  constructor(context: MetricsContext, clock: Clock) {
    this.#context = context;
    this.#clock = clock;
  }

  answer() {
    const nowMs = this.#clock.now();
    if (nowMs - this.#madeAtMs >= PAGE_MS) {
      this.#page = Buffer.from(describeMetrics(this.#context));
      this.#madeAtMs = nowMs;
    }
    return { status: 200, type: METRICS_TYPE, body: this.#page };
  }
}

function channelMetrics(channels: readonly ChannelStatus[]): Metric[] {
  const each = eachChannel(channels);
  const ofSession = (name: string, help: string, look: (session: SessionStatus) => number | null): Metric =>
    each('gauge', name, help, ({ session }) => session && look(session));
  return [
    {
      name: 'vproxy_channel_state',
      type: 'gauge',
      help: '1 for the current state of the channel, 0 for the others.',
      samples: channels.flatMap(({ label, state }) =>
        CHANNEL_STATES.map((each) => ({ labels: { channel: label, state: each }, value: each === state ? 1 : 0 })),
      ),
    },
    each('counter', 'sessions_total', 'Sessions established.', ({ history }) => history.sessions),
    {
      name: 'vproxy_channel_session_ends_total',
      type: 'counter',
      help: 'Sessions ended, by code of the reason.',
      samples: channels.flatMap(({ label, history }) =>
        Object.entries(history.ends).map(([code, value]) => ({ labels: { channel: label, code }, value })),
      ),
    },
    ...(Object.keys(CHANNEL_TOTALS) as (keyof ChannelTotals)[]).map((key) => {
      const [name, scale] = nameOfCounter(key);
      return each('counter', name, `${CHANNEL_TOTALS[key]}.`, ({ totals }) => totals[key] / scale);
    }),
    each('gauge', 'streams', 'Open streams.', ({ session }) => session?.streams ?? 0),
    ofSession('session_age_seconds', 'Age of the current session.', ({ ageMs }) => ageMs / 1000),
    ofSession('round_trip_seconds', 'Last measured round trip to the peer.', ({ roundTripMs }) =>
      roundTripMs === null ? null : roundTripMs / 1000,
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
}

/** Makes metrics with one series for each channel for which `look` returns a number. */
function eachChannel(channels: readonly ChannelStatus[]) {
  return (
    type: Metric['type'],
    name: string,
    help: string,
    look: (channel: ChannelStatus) => number | null,
  ): Metric => {
    const samples = channels.flatMap((channel): MetricSample[] => {
      const value = look(channel);
      return value === null ? [] : [{ labels: { channel: channel.label }, value }];
    });
    return { name: `vproxy_channel_${name}`, type, help, samples };
  };
}

/** `sent_bytes_total` for `sentBytes`, and the divisor that converts the counter to the metric, whose times are in seconds. */
function nameOfCounter(key: string): readonly [name: string, scale: number] {
  const words = key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return words.endsWith('_ms') ? [`${words.slice(0, -'ms'.length)}seconds_total`, 1000] : [`${words}_total`, 1];
}

function forwardMetric(channels: readonly ChannelStatus[], forwards: readonly ForwardStatus[]): Metric {
  const counts = new Map<string, number>();
  for (const { channel } of forwards) counts.set(channel, (counts.get(channel) ?? 0) + 1);
  const help = 'Forwards of the channel, including draining ones.';
  return eachChannel(channels)('gauge', 'forwards', help, ({ label }) => counts.get(label) ?? 0);
}

/** The metrics of forwards with datagrams; each has its series while it exists. */
function datagramMetrics(forwards: readonly ForwardStatus[]): Metric[] {
  const each = (name: string, help: string, look: (counts: DatagramCounts) => readonly [number, number]): Metric => ({
    name: `vproxy_forward_${name}_total`,
    type: 'counter',
    help,
    samples: forwards.flatMap(({ channel, datagrams, id }) => {
      if (datagrams === null) return [];
      const [sent, received] = look(datagrams);
      const labels = { channel, forward: id };
      return [
        { labels: { ...labels, direction: 'sent' }, value: sent },
        { labels: { ...labels, direction: 'received' }, value: received },
      ];
    }),
  });
  return [
    each('datagrams', 'Datagrams sent to the peer or received from it.', ({ sent, received }) => [sent, received]),
    each(
      'datagrams_dropped',
      'Datagrams to or from the peer dropped on this side.',
      ({ sendDropped, receiveDropped }) => [sendDropped, receiveDropped],
    ),
  ];
}

function portMetric(channels: readonly ChannelStatus[], ports: readonly PortStatus[]): Metric {
  const counts = new Map(channels.map(({ label }) => [label, { here: 0, peer: 0 }]));
  for (const { channel, announcedBy } of ports) {
    const count = counts.get(channel);
    if (count !== undefined) count[announcedBy] += 1;
  }
  return {
    name: 'vproxy_channel_ports',
    type: 'gauge',
    help: 'Ports announced by this side or by the peer.',
    samples: [...counts].flatMap(([channel, count]) =>
      Object.entries(count).map(([side, value]) => ({ labels: { channel, side }, value })),
    ),
  };
}

// The text format of Prometheus, version 0.0.4

/** The value of one series. */
interface MetricSample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** All series of one name. */
interface Metric {
  /** With its unit, and `_total` for a counter. */
  readonly name: string;
  readonly type: 'counter' | 'gauge';
  readonly help: string;
  readonly samples: readonly MetricSample[];
}

/** The Content-Type of the format. */
export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** Formats the page; omits metrics without series. */
export function formatMetrics(metrics: readonly Metric[]): string {
  return metrics
    .filter(({ samples }) => samples.length > 0)
    .map(({ name, type, help, samples }) => {
      const lines = samples.map(({ labels, value }) => `${name}${formatLabels(labels)} ${formatValue(value)}\n`);
      return `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n${lines.join('')}`;
    })
    .join('');
}

function formatLabels(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`;
}

const escapeHelp = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');

const escapeLabel = (text: string): string => escapeHelp(text).replaceAll('"', '\\"');

function formatValue(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}

/**
 * The metrics of the process itself, under their usual names; they need no sampling. `version` is the program's, such as
 * `vproxy 0.1.0`.
 */
function processMetrics(version: string): Metric[] {
  const { rss, heapUsed, external } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const { active, idle } = performance.eventLoopUtilization();
  const one = (type: Metric['type'], name: string, help: string, value: number, labels = {}): Metric => ({
    name,
    type,
    help,
    samples: [{ labels, value }],
  });
  return [
    one('gauge', 'vproxy_build_info', 'Always 1; the versions of vproxy and Node are labels.', 1, {
      version: version.replace(/^vproxy /, ''),
      node: process.versions.node,
    }),
    one(
      'gauge',
      'process_start_time_seconds',
      'Start time of the process, in seconds since 1970.',
      Math.round(performance.timeOrigin) / 1000,
    ),
    one('counter', 'process_cpu_seconds_total', 'CPU time of the process.', (user + system) / 1e6),
    one('gauge', 'process_resident_memory_bytes', 'Resident memory of the process.', rss),
    one('gauge', 'nodejs_heap_size_used_bytes', 'JavaScript heap in use.', heapUsed),
    one('gauge', 'nodejs_external_memory_bytes', 'Memory outside the JavaScript heap, such as buffers.', external),
    one('counter', 'vproxy_event_loop_active_seconds_total', 'Time that the event loop was active.', active / 1000),
    one('counter', 'vproxy_event_loop_idle_seconds_total', 'Time that the event loop was idle.', idle / 1000),
  ];
}
