/** The bars for vproxy: ratios of its medians to those of its peers in the same run, and absolute figures. */
import type { Results } from '../results.js';
import { formatTable } from '../table.js';
import { formatFigure } from './format-figure.js';

/** One bar. */
export interface Bar {
  /** The comparison, human-readable. */
  readonly title: string;
  readonly work: string;
  readonly key: string;
  /** The measured column, and the one to compare with; without the latter, the figure itself counts. */
  readonly of: string;
  readonly beside?: string;
  /** Whether the ratio must be at least or at most `bar`. */
  readonly bound: 'least' | 'most';
  readonly bar: number;
}

/** A bar with its result. */
export interface BarResult extends Bar {
  /** The ratio, or the figure; undefined if one of the two was not measured. */
  readonly ratio: number | undefined;
  readonly isMet: boolean | undefined;
}

/** A figure of vproxy compared with yamux and with the plain relays. */
function beside(title: string, work: string, key: string, bound: Bar['bound'], yamux: number, relays?: number): Bar[] {
  const common = { title, work, key, of: 'vproxy', bound };
  return [
    { ...common, beside: 'yamux', bar: yamux },
    ...(relays === undefined ? [] : [{ ...common, beside: 'relays', bar: relays }]),
  ];
}

const TRANSFERS = ['up-1', 'up-8', 'down-1', 'down-8'];

/** The rates of vproxy with a setting, compared with those with the defaults. */
function withSetting(title: string, of: string, bar: number): Bar[] {
  return TRANSFERS.map((work) => ({
    ...{ title: `${title}, ${work}`, work, key: 'rate', of, beside: 'vproxy', bound: 'least', bar },
  }));
}

/** Its CPU per GB, likewise. */
function cpuWithSetting(title: string, of: string, bar: number): Bar[] {
  return TRANSFERS.map((work) => ({
    ...{ title: `${title}, CPU per GB, ${work}`, work, key: 'cpu', of, beside: 'vproxy', bound: 'most', bar },
  }));
}

/** The time of a vproxy command compared with Node itself. */
const command = (title: string, of: string, bar: number): Bar => ({
  ...{ title, work: 'command', key: 'ms', of, beside: 'node', bound: 'most', bar },
});

/** An upper limit of a figure of vproxy. */
const atMost = (title: string, work: string, key: string, bar: number): Bar => ({
  ...{ title, work, key, of: 'vproxy', bound: 'most', bar },
});

/** All bars, in the order of their table. Where a better one was not reached, docs/performance-notebook.md says what holds it up. */
export const BARS: readonly Bar[] = [
  command('vproxy --version', 'version', 1.2),
  command('vproxy status', 'status', 2.2),
  command('vproxy exec', 'exec', 2.4),
  atMost('from start to the first byte, ms', 'start', 'ms', 200),
  atMost('memory at rest, MB', 'rest', 'resident', 58),
  atMost('private memory at rest, MB', 'rest', 'private', 15),
  ...beside('CPU per GB, up, 1 stream', 'up-1', 'cpu', 'most', 0.75, 0.95),
  ...beside('CPU per GB, down, 1 stream', 'down-1', 'cpu', 'most', 0.75, 0.95),
  ...beside('CPU per GB, up, 8 streams', 'up-8', 'cpu', 'most', 0.8, 0.95),
  ...beside('CPU per GB, down, 8 streams', 'down-8', 'cpu', 'most', 0.8, 0.95),
  ...beside('up, 1 stream', 'up-1', 'rate', 'least', 1.4, 1.2),
  ...beside('down, 1 stream', 'down-1', 'rate', 'least', 1.4, 1.2),
  ...beside('up, 8 streams', 'up-8', 'rate', 'least', 1.2, 1),
  ...beside('down, 8 streams', 'down-8', 'rate', 'least', 1.2, 1),
  ...beside('echo of 1 B, p50', 'echo-1', 'p50', 'most', 0.75, 1.25),
  ...beside('echo next to 8 bulk streams, p99', 'beside-bulk', 'p99', 'most', 1.4, 0.4),
  ...beside('bulk rate next to that echo', 'beside-bulk', 'rate', 'least', 1.15, 0.9),
  ...beside('connections, 1 at a time', 'connections-1', 'rate', 'least', 0.75, 0.7),
  ...beside('connections, 16 at a time', 'connections-16', 'rate', 'least', 0.75, 0.65),
  ...beside('memory of 1,000 idle streams', 'idle', 'both-1000', 'most', 0.45),
  ...withSetting('full', 'vproxy-full', 0.75),
  ...withSetting('tls', 'vproxy-tls', 0.5),
  ...withSetting('resume', 'vproxy-resume', 0.9),
  ...cpuWithSetting('resume', 'vproxy-resume', 1.1),
];

/** The bars with their ratios. */
export function compareWithBars(results: Results, bars: readonly Bar[] = BARS): BarResult[] {
  return bars.map((bar) => {
    const of = results.median(bar.work, bar.key, bar.of);
    const peer = bar.beside === undefined ? 1 : results.median(bar.work, bar.key, bar.beside);
    const ratio = of === undefined || peer === undefined || peer === 0 ? undefined : of / peer;
    return { ...bar, ratio, isMet: ratio === undefined ? undefined : isMet(bar, ratio) };
  });
}

/** The cells of a bar: its name, whose medians, the figure, and the bar. */
export const barCells = ({ title, of, beside: peer, ratio = Number.NaN, bound, bar }: BarResult): string[] => [
  title,
  peer === undefined ? of : `${of} / ${peer}`,
  peer === undefined ? formatFigure(ratio) : ratio.toFixed(2),
  `${bound === 'least' ? '≥' : '≤'} ${bar}`,
];

/** The table of the bars whose figures were measured; empty when no figure was measured. */
export function formatBars(results: readonly BarResult[]): string {
  const measured = results.filter(({ ratio }) => ratio !== undefined);
  if (measured.length === 0) return '';
  const rows = measured.map((result) => [...barCells(result), result.isMet ? 'met' : 'MISSED']);
  return formatTable([['', 'medians of', 'figure', 'target', ''], ...rows]);
}

const isMet = ({ bound, bar }: Bar, ratio: number): boolean => (bound === 'least' ? ratio >= bar : ratio <= bar);
