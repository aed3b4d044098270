/** What `npm run bench -- --documents` writes: the README's table, and the tables of docs/performance.md. */
import type { BenchOptions } from '../options.js';
import { type BarResult, formatBars } from '../report/bars.js';
import { formatFigures, formatMedian } from '../report/figures-table.js';
import type { MachineFacts } from '../report/machine.js';
import { type Results, rowsOf } from '../results.js';
import { SIDE_TABLES } from '../side-tables.js';
import { WORK } from '../work/list.js';
import { asPrinted, type DocumentPart } from './parts.js';

const README = 'README.md';
const PERFORMANCE = 'docs/performance.md';

/** The columns of the README's table, vproxy with its default settings first. */
const README_COLUMNS = [
  ['vproxy', 'vproxy'],
  ['yamux', 'yamux'],
  ['smux', 'smux'],
  ['ssh', 'ssh -L'],
  ['socat', 'socat'],
  ['relays', 'two plain relays'],
] as const;

const README_ROWS = [
  ['first byte after the start of both sides, ms', 'start', 'ms'],
  ['memory of a side at rest, MB', 'rest', 'resident'],
  ['CPU of both sides for a GB, 1 stream, s', 'up-1', 'cpu'],
  ['1 stream, MB/s', 'up-1', 'rate'],
  ['8 streams, MB/s', 'up-8', 'rate'],
  ['an echo, p50, µs', 'echo-1', 'p50'],
  ['an echo beside 8 bulk streams, p99, µs', 'beside-bulk', 'p99'],
  ['connections a second, one at a time', 'connections-1', 'rate'],
  ['an idle stream, both sides, KB', 'idle', 'both-1000'],
] as const;

/** What a run is told in the documents with. */
export interface BenchFindings {
  readonly options: Pick<BenchOptions, 'rounds' | 'amounts' | 'contenders'>;
  readonly missing: ReadonlyMap<string, string>;
  readonly results: Results;
  readonly bars: readonly BarResult[];
  readonly machine: MachineFacts;
}

/** All parts, those of which nothing was measured included. */
export function benchParts({ options, missing, results, bars, machine }: BenchFindings): DocumentPart[] {
  const { rounds, amounts, contenders } = options;
  const works = WORK.map(({ id }) => id);
  const run = `${describeRun(rounds, machine)}, ${amounts.bytes / 1e6} MB a transfer`;
  const figures = formatFigures(rowsOf(WORK, amounts), contenders, missing, results);
  return [
    {
      ...{ file: README, name: 'figures', works: [...new Set(README_ROWS.map(([, work]) => work))] },
      content: `${formatReadmeTable(missing, results)}\n\nMedians of ${run}.`,
    },
    {
      ...{ file: PERFORMANCE, name: 'figures', works },
      content: `Medians of ${run}; below them the smallest and the largest.\n\n${asPrinted(figures)}`,
    },
    { file: PERFORMANCE, name: 'bars', works: [...works, 'command'], content: asPrinted(formatBars(bars)) },
    ...SIDE_TABLES.map(({ work, columns }) => ({
      ...{ file: PERFORMANCE, name: work.id, works: [work.id] },
      content: `Medians of ${describeRun(rounds, machine)}.\n\n${asPrinted(formatFigures(rowsOf([work], amounts), columns, new Map(), results))}`,
    })),
  ];
}

/** How often, and on what. */
export function describeRun(rounds: number, { cpuCount, node, kernel }: MachineFacts): string {
  return `${rounds} round${rounds === 1 ? '' : 's'}, ${cpuCount} core${cpuCount === 1 ? '' : 's'}, Node ${node.replace('v', '')}, ${kernel}`;
}

function formatReadmeTable(missing: ReadonlyMap<string, string>, results: Results): string {
  const lines = [
    ['', ...README_COLUMNS.map(([, title]) => title)],
    ['---', ...README_COLUMNS.map(() => '---')],
    ...README_ROWS.map(([title, work, key]) => [
      title,
      ...README_COLUMNS.map(([id]) => (missing.has(id) ? 'missing' : formatMedian(results.cell(work, key, id)))),
    ]),
  ];
  return lines.map((cells) => `| ${cells.join(' | ')} |`.replace('|  |', '| |')).join('\n');
}
