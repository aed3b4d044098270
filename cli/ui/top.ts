/** Renders a frame of `vproxy top` from statuses and a size. */

import type { ChannelStatus, ChannelTotals, ControlStatus, StreamWithRates } from '../../lib/status/types.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatCount } from '../../lib/util/units.js';
import { type Paint, painter, toneOfState } from './color.js';
import { formatAge, formatBytes, formatDuration, formatRate } from './print.js';
import { describePeer, describeWait, formatRoundTrip, formatTimeInState, shownState } from './status.js';
import { type Column, fitText, formatTable, truncateText } from './table.js';

export interface TopView {
  readonly status: ControlStatus;
  readonly streams: readonly StreamWithRates[];
  /** The newest last. */
  readonly samples: readonly TrafficSample[];
  /** The number of streams above the first visible one; clamped to the last. */
  readonly scroll: number;
  /** Whether the terminal has colours, and shows more than ASCII. */
  readonly isColored: boolean;
  readonly isUnicode: boolean;
}

/** Renders at most `height` lines of at most `width` columns; also returns the clamped `scroll`. */
export function renderFrame(view: TopView, { width, height }: { readonly width: number; readonly height: number }) {
  const paint = painter(view.isColored);
  const head = [paint(fitText(titleLine(view.status), width), 'bold'), ...trafficLines(view, width), ''];
  const channels = channelLines(view, width, Math.max(2, Math.floor(height / 3) - 1), paint);
  const room = Math.max(1, height - head.length - channels.length - 3);
  const all = [...view.streams].sort((a, b) => totalRate(b) - totalRate(a) || a.ageMs - b.ageMs);
  const scroll = Math.max(0, Math.min(view.scroll, all.length - room));
  const suspended = new Set(view.status.channels.filter(isSuspended).map(({ label }) => label));
  const [titles = '', ...rows] = formatTable(streamColumns(suspended, all), all.slice(scroll, scroll + room), width);
  const streams = all.length === 0 ? ['No streams.'] : [paint(fitText(titles, width), 'reverse'), ...rows];
  const body = [...head, ...channels, '', ...streams].slice(0, Math.max(0, height - 1));
  const shown = Math.min(room, all.length);
  const place = all.length > shown ? `${scroll + 1}-${scroll + shown} of ${formatCount(all.length, 'stream')}, ` : '';
  const foot = truncateText(`${place}q quits${all.length > shown ? ', arrows or j/k scroll' : ''}`, width);
  const blank = Array.from({ length: Math.max(0, height - 1 - body.length) }, () => '');
  return { lines: [...body, ...blank, paint(foot, 'faint')].slice(-Math.max(1, height)), scroll };
}

/** One line, if the output is not a terminal. */
export function formatTopLine({ status, samples }: Pick<TopView, 'status' | 'samples'>): string {
  const { process, channels, streams } = status;
  const established = channels.filter(({ state }) => state === 'established').length;
  const resumptions = channels.reduce((sum, { totals }) => sum + totals.resumptions, 0);
  const { sendRate = 0, receiveRate = 0 } = samples.at(-1) ?? {};
  return [
    `channels ${established}/${channels.length}`,
    `streams ${streams}`,
    `resumed ${resumptions}`,
    `sent ${formatRate(sendRate)}`,
    `received ${formatRate(receiveRate)}`,
    `memory ${formatBytes(process.memory.residentBytes)}`,
    `delay ${formatDelay(status)}`,
  ].join('  ');
}

function titleLine(status: ControlStatus): string {
  const { name, pid, uptimeMs, memory } = status.process;
  const who = `vproxy ${name === null ? '' : `${escapeText(name, 32)} `}(${pid})`;
  return `${who}  up ${formatAge(uptimeMs)}  memory ${formatBytes(memory.residentBytes)}  delay ${formatDelay(status)}`;
}

function formatDelay({ process: { eventLoopDelay } }: ControlStatus): string {
  if (eventLoopDelay === null) return '-';
  return `${formatDuration(eventLoopDelay.meanMs)}, p99 ${formatDuration(eventLoopDelay.p99Ms)}`;
}

function trafficLines({ samples, isUnicode }: TopView, width: number): string[] {
  const rows = [
    { title: 'sent', rates: samples.map(({ sendRate }) => sendRate) },
    { title: 'received', rates: samples.map(({ receiveRate }) => receiveRate) },
  ];
  return rows.map(({ title, rates }) => {
    const now = `${title.padEnd(8)} ${formatRate(rates.at(-1) ?? 0).padStart(10)} `;
    const room = width - now.length - PEAK_WIDTH;
    const peak = Math.max(0, ...rates.slice(-Math.max(1, room)));
    const line = formatSparkline(rates, room, peak, isUnicode);
    return truncateText(`${now}${line} peak ${formatRate(peak)}`, width);
  });
}

/** Room for ` peak 123 MB/s`. */
const PEAK_WIDTH = 16;

/** The columns; `ratesOf` returns the rates of a channel. */
const channelColumns = (ratesOf: (channel: ChannelStatus) => Rates): readonly Column<ChannelStatus>[] => [
  { title: 'CHANNEL', cell: ({ label }) => label, leastWidth: 8 },
  { title: 'STATE', cell: shownState },
  { title: 'FOR', cell: formatTimeInState, align: 'right' },
  { title: 'PEER', cell: describePeerOrWait, leastWidth: 8 },
  { title: 'RTT', cell: formatRoundTrip, align: 'right' },
  { title: 'STREAMS', cell: ({ session }) => String(session?.streams ?? 0), align: 'right' },
  { title: 'SENT', cell: (channel) => formatRate(ratesOf(channel).sendRate), align: 'right' },
  { title: 'RECEIVED', cell: (channel) => formatRate(ratesOf(channel).receiveRate), align: 'right' },
];

function describePeerOrWait(channel: ChannelStatus): string {
  const { session } = channel;
  return session === null || shownState(channel) === 'silent' ? (describeWait(channel) ?? '-') : describePeer(session);
}

/** How often a session was resumed on another link. */
const RESUMED_COLUMN: Column<ChannelStatus> = { title: 'RESUMED', cell: formatResumptions, align: 'right' };

/** A narrower screen has no room for that column. */
const RESUMED_FROM_WIDTH = 110;

const isSuspended = ({ state }: ChannelStatus): boolean => state === 'suspended';

/** The channels without a session or a link, which users look for, then those with the most traffic. */
function channelLines({ status, samples }: TopView, width: number, room: number, paint: Paint): string[] {
  const { channels } = status;
  const rates = samples.at(-1)?.channels;
  const ratesOf = ({ label }: ChannelStatus): Rates => rates?.get(label) ?? { sendRate: 0, receiveRate: 0 };
  const isUp = (channel: ChannelStatus): number => (shownState(channel) === 'established' ? 1 : 0);
  const sorted = [...channels].sort((a, b) => isUp(a) - isUp(b) || totalRate(ratesOf(b)) - totalRate(ratesOf(a)));
  const shown = sorted.slice(0, channels.length > room ? room - 1 : room);
  const columns = [...channelColumns(ratesOf), ...(width >= RESUMED_FROM_WIDTH ? [RESUMED_COLUMN] : [])];
  const [titles = '', ...lines] = formatTable(columns, shown, width);
  const tones = shown.map((channel) => toneOfState(shownState(channel)));
  const painted = lines.map((line, index) => paint(line, tones[index] ?? null));
  const hidden = channels.length - shown.length;
  const rest = hidden === 0 ? [] : [truncateText(`and ${formatCount(hidden, 'more channel')}`, width)];
  return [paint(fitText(titles, width), 'reverse'), ...painted, ...rest];
}

/** A dash if the session cannot be resumed, and none ever was. */
function formatResumptions({ session, totals: { resumptions } }: ChannelStatus): string {
  const canResume = session !== null && session.resume.here && session.resume.peer;
  return canResume || resumptions > 0 ? String(resumptions) : '-';
}

/** The columns; a stream of a suspended channel, by label, waits for a link whatever else it waits for. */
const streamColumns = (
  suspended: ReadonlySet<string>,
  streams: readonly StreamWithRates[],
): readonly Column<StreamWithRates>[] => [
  { title: 'STREAM', cell: ({ channel, id }) => `${channel}/${id}`, leastWidth: 8 },
  { title: 'SERVICE', cell: ({ service }) => service, leastWidth: 7 },
  { title: 'DIRECTION', cell: ({ direction }) => direction, leastWidth: 9 },
  { title: 'AGE', cell: ({ ageMs }) => formatAge(ageMs), align: 'right' },
  { title: 'SENDING', cell: ({ sendRate }) => formatRate(sendRate), align: 'right' },
  { title: 'RECEIVING', cell: ({ receiveRate }) => formatRate(receiveRate), align: 'right' },
  { title: 'TOTAL', cell: ({ sentBytes, receivedBytes }) => formatBytes(sentBytes + receivedBytes), align: 'right' },
  {
    title: 'WAITS',
    cell: ({ channel, waitsFor }) => (suspended.has(channel) ? 'link' : (waitsFor ?? '-')),
    leastWidth: 5,
  },
  ...(streams.some(({ reached }) => reached !== null)
    ? [{ title: 'DESTINATION', cell: ({ reached }: StreamWithRates) => reached?.destination ?? '-', leastWidth: 11 }]
    : []),
];

const totalRate = ({ sendRate, receiveRate }: Rates): number => sendRate + receiveRate;

// Sparklines.

const BARS = '▁▂▃▄▅▆▇█';
const ASCII_BARS = '_.-:=+*#';

/** Draws the last `width` values, the newest at the right, as bars relative to `peak`; zero is a space. */
export function formatSparkline(values: readonly number[], width: number, peak: number, isUnicode: boolean): string {
  const bars = isUnicode ? BARS : ASCII_BARS;
  const shown = width <= 0 ? [] : values.slice(-width);
  return shown
    .map((value) => {
      if (value <= 0 || peak <= 0) return ' ';
      return bars[Math.min(bars.length - 1, Math.ceil((value / peak) * bars.length) - 1)] ?? '';
    })
    .join('')
    .padStart(Math.max(0, width));
}

// The throughput of all channels, from samples of their totals.

/** The rates between two samples, in bytes per second. */
interface Rates {
  readonly sendRate: number;
  readonly receiveRate: number;
}

/** The rates of all channels together. */
interface TrafficSample extends Rates {
  readonly channels: ReadonlyMap<string, Rates>;
}

/** The number of samples kept: no terminal is wider. */
const MAX_SAMPLES = 512;

export class TrafficHistory {
  #samples: readonly TrafficSample[] = [];
  #totals: ReadonlyMap<string, ChannelTotals> | null = null;
  #atMs = 0;

  /** The samples so far, the newest last. */
  get samples(): readonly TrafficSample[] {
    return this.#samples;
  }

  /**
   * Adds the totals at a time of any clock; the first call makes no sample, as there is nothing to compare it with.
   */
  add({ channels }: ControlStatus, atMs: number): void {
    const before = this.#totals;
    const seconds = Math.max(1, atMs - this.#atMs) / 1000;
    this.#totals = new Map(channels.map(({ label, totals }) => [label, totals]));
    this.#atMs = atMs;
    if (before === null) return;
    const rates = channels.map(({ label, totals }) => {
      // A channel that is new, or has replaced another with its label, begins at zero.
      const old = before.get(label);
      const base = old !== undefined && isLater(totals, old) ? old : { sentBytes: 0, receivedBytes: 0 };
      const sendRate = (totals.sentBytes - base.sentBytes) / seconds;
      const receiveRate = (totals.receivedBytes - base.receivedBytes) / seconds;
      return [label, { sendRate, receiveRate }] as const;
    });
    const sample = {
      sendRate: rates.reduce((sum, [, { sendRate }]) => sum + sendRate, 0),
      receiveRate: rates.reduce((sum, [, { receiveRate }]) => sum + receiveRate, 0),
      channels: new Map(rates),
    };
    this.#samples = [...this.#samples, sample].slice(-MAX_SAMPLES);
  }
}

const isLater = (totals: ChannelTotals, before: ChannelTotals): boolean =>
  totals.sentBytes >= before.sentBytes && totals.receivedBytes >= before.receivedBytes;
