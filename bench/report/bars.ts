/** What vproxy has to reach beside its peers, as ratios of medians in one run. */
import type { Results } from '../results.js';
import { formatTable } from '../table.js';

/** One bar. */
export interface Bar {
  /** What is compared, for people. */
  readonly title: string;
  readonly work: string;
  readonly key: string;
  /** The contender that is measured, and the one that it is compared with. */
  readonly of: string;
  readonly beside: string;
  /** Whether the ratio has to be at least or at most `bar`; `aim` is better still. */
  readonly bound: 'least' | 'most';
  readonly bar: number;
  readonly aim?: number;
  /** The figure of `beside`, where that is another one. Default: the same. */
  readonly besideFigure?: { readonly work: string; readonly key: string };
}

/** A bar with its result. */
export interface BarResult extends Bar {
  /** Undefined where one of the two was not measured. */
  readonly ratio: number | undefined;
  readonly isMet: boolean | undefined;
}

type Target = readonly [bar: number, aim?: number];

/** A figure of vproxy beside yamux and beside the plain relays. */
function beside(title: string, work: string, key: string, bound: Bar['bound'], yamux: Target, relays?: Target): Bar[] {
  const entries: [string, Target][] = [['yamux', yamux], ...(relays ? [['relays', relays] as [string, Target]] : [])];
  return entries.map(([peer, [bar, aim]]) => ({
    ...{ title, work, key, of: 'vproxy', beside: peer, bound, bar },
    ...(aim === undefined ? {} : { aim }),
  }));
}

/** All bars, in the order of their table. */
export const BARS: readonly Bar[] = [
  ...beside('up, 1 stream', 'up-1', 'rate', 'least', [1.4, 1.8], [1.1]),
  ...beside('down, 1 stream', 'down-1', 'rate', 'least', [1.4, 1.8], [1.1]),
  ...beside('up, 8 streams', 'up-8', 'rate', 'least', [1.2, 1.6], [0.8, 0.95]),
  ...beside('down, 8 streams', 'down-8', 'rate', 'least', [1.2, 1.6], [0.8, 0.95]),
  ...beside('CPU per GB, up, 1 stream', 'up-1', 'cpu', 'most', [0.65, 0.45], [0.85]),
  ...beside('CPU per GB, down, 1 stream', 'down-1', 'cpu', 'most', [0.65, 0.45], [0.85]),
  ...beside('CPU per GB, up, 8 streams', 'up-8', 'cpu', 'most', [0.65, 0.45], [0.85]),
  ...beside('CPU per GB, down, 8 streams', 'down-8', 'cpu', 'most', [0.65, 0.45], [0.85]),
  ...beside('echo of 1 B, p50', 'echo-1', 'p50', 'most', [0.9, 0.7], [1]),
  ...beside('echo beside 8 bulk streams, p99', 'beside-bulk', 'p99', 'most', [0.9, 0.4], [0.35]),
  ...beside('the bulk beside that echo', 'beside-bulk', 'rate', 'least', [1]),
  ...beside('connections, 1 at a time', 'connections-1', 'rate', 'least', [1], [1]),
  ...beside('connections, 16 at a time', 'connections-16', 'rate', 'least', [1.1, 1.3], [1.1]),
  ...beside('memory of 1,000 idle streams', 'idle', 'both-1000', 'most', [0.2, 0.05]),
  ...['up-1', 'up-8', 'down-1', 'down-8'].map(
    (work): Bar => ({
      title: `integrity on, ${work}`,
      work,
      key: 'rate',
      of: 'vproxy-integrity',
      beside: 'vproxy',
      bound: 'least',
      bar: 0.85,
    }),
  ),
];

/** The bars with their ratios. */
export function compareWithBars(results: Results, bars: readonly Bar[] = BARS): BarResult[] {
  return bars.map((bar) => {
    const of = results.median(bar.work, bar.key, bar.of);
    const { work, key } = bar.besideFigure ?? bar;
    const peer = results.median(work, key, bar.beside);
    const ratio = of === undefined || peer === undefined || peer === 0 ? undefined : of / peer;
    return { ...bar, ratio, isMet: ratio === undefined ? undefined : isMet(bar, ratio) };
  });
}

/** The table of the bars whose figures were measured; empty when no figure was measured. */
export function formatBars(results: readonly BarResult[]): string {
  const measured = results.filter(({ ratio }) => ratio !== undefined);
  if (measured.length === 0) return '';
  const rows = measured.map(({ title, of, beside: peer, ratio = Number.NaN, bound, bar, aim, isMet: met }) => {
    const sign = bound === 'least' ? '≥' : '≤';
    return [
      title,
      `${of} / ${peer}`,
      ratio.toFixed(2),
      `${sign} ${bar}`,
      aim === undefined ? '' : `${sign} ${aim}`,
      met ? 'met' : 'NOT MET',
    ];
  });
  return formatTable([['', 'medians of', 'ratio', 'bar', 'aim', ''], ...rows]);
}

const isMet = ({ bound, bar }: Bar, ratio: number): boolean => (bound === 'least' ? ratio >= bar : ratio <= bar);
