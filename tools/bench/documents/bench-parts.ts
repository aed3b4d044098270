/** The output of `npm run bench -- --documents`: the tables of the README, of docs/performance.md, and of its notebook. */
import { formatCount } from '../../../lib/util/units.js';
import type { BenchOptions } from '../options.js';
import type { BarResult } from '../report/bars.js';
import type { Column } from '../report/figures-table.js';
import type { MachineFacts } from '../report/machine.js';
import { type Results, rowsOf } from '../results.js';
import { SIDE_TABLES } from '../side-tables.js';
import { WORK } from '../work/list.js';
import type { DocumentPart } from './parts.js';
import { formatBarTable, formatMedians, formatRanges, type LeadRow } from './tables.js';

const README = 'README.md';
const PERFORMANCE = 'docs/performance.md';
/** For contributors: everything that the other two do not show. */
export const NOTEBOOK = 'docs/performance-notebook.md';

/** The columns of the README's table, vproxy with its default settings first. */
const README_COLUMNS: readonly Column[] = [
  { id: 'vproxy', title: 'vproxy' },
  { id: 'yamux', title: 'yamux' },
  { id: 'smux', title: 'smux' },
  { id: 'ssh', title: 'ssh -L' },
  { id: 'socat', title: 'socat' },
  { id: 'relays', title: 'two plain relays' },
];

const STREAM: LeadRow = { title: '1 stream, MB/s', work: 'up-1', key: 'rate' };
const ECHO: LeadRow = { title: 'echo, p50, µs', work: 'echo-1', key: 'p50' };
const README_ROWS = [STREAM, ECHO];

/** The rows that readers look for first. */
const LEAD_ROWS: readonly LeadRow[] = [
  { title: 'from start to the first byte, ms', work: 'start', key: 'ms' },
  { title: 'memory at rest, per side, MB', work: 'rest', key: 'resident' },
  { title: 'CPU of both sides, 1 stream, s/GB', work: 'up-1', key: 'cpu' },
  STREAM,
  { title: '8 streams, MB/s', work: 'up-8', key: 'rate' },
  ECHO,
  { title: 'echo next to 8 bulk streams, p99, µs', work: 'beside-bulk', key: 'p99' },
  { title: 'connections, 1 at a time, /s', work: 'connections-1', key: 'rate' },
  { title: '1,000 idle streams, both sides, KB each', work: 'idle', key: 'both-1000' },
  { title: '10,000 idle streams, both sides, KB each', work: 'idle', key: 'both-10000' },
];

/** The additional tables of the notebook; it has a sentence about each of the others. */
const NOTED: ReadonlySet<string> = new Set([
  'remote-command',
  'channels',
  'hand-over',
  'egress',
  'datagram-tools',
  'tools',
]);

/** vproxy with its default settings, which is in both tables. */
const DEFAULTS = 'vproxy';

/** The oldest version that vproxy runs on. */
const OLD_NODE = 'v20.';

/** The data of a run for the documents. */
export interface BenchFindings {
  readonly options: Pick<BenchOptions, 'rounds' | 'amounts' | 'contenders'>;
  readonly missing: ReadonlyMap<string, string>;
  readonly results: Results;
  readonly bars: readonly BarResult[];
  readonly machine: MachineFacts;
}

/** All parts, including those that were not measured. A run on Node 20 is only for a table of vproxy itself. */
export function benchParts({ options, missing, results, bars, machine }: BenchFindings): DocumentPart[] {
  const { rounds, amounts, contenders } = options;
  const works = WORK.map(({ id }) => id);
  const run = `${describeRun(rounds, machine)}, ${amounts.bytes / 1e6} MB per transfer`;
  const beside = { missing, results };
  const tableOf = (title: string, isMeant: (id: string) => boolean): string => {
    const columns = contenders.filter(({ id }) => id === DEFAULTS || isMeant(id));
    return `${title}:\n\n${formatMedians(LEAD_ROWS, { ...beside, columns })}`;
  };
  const isSetting = (id: string): boolean => id.startsWith(`${DEFAULTS}-`);
  if (machine.node.startsWith(OLD_NODE)) {
    const columns = contenders.filter(({ id }) => id === DEFAULTS || isSetting(id));
    const content = `Medians of ${run}.\n\n${formatMedians(LEAD_ROWS, { ...beside, columns })}`;
    return [{ file: NOTEBOOK, name: 'node-20', works: LEAD_ROWS.map(({ work }) => work), content }];
  }
  return [
    {
      ...{ file: README, name: 'figures', works: README_ROWS.map(({ work }) => work) },
      content: `${formatMedians(README_ROWS, { ...beside, columns: README_COLUMNS })}\n\nMedians of ${run}.`,
    },
    {
      ...{ file: PERFORMANCE, name: 'figures', works: LEAD_ROWS.map(({ work }) => work) },
      content: [
        `Medians of ${run}.`,
        tableOf('vproxy compared with others', (id) => !isSetting(id)),
        tableOf('vproxy with other settings', isSetting),
      ].join('\n\n'),
    },
    { file: NOTEBOOK, name: 'bars', works: [...works, 'command'], content: formatBarTable(bars) },
    ...SIDE_TABLES.filter(({ work }) => NOTED.has(work.id)).map(({ work, columns }) => ({
      ...{ file: NOTEBOOK, name: work.id, works: [work.id] },
      content: `${describeRanges(rounds, machine)}.\n\n${formatRanges(rowsOf([work], amounts), { columns, missing: new Set(), results })}`,
    })),
  ];
}

/** The sentence above a table of medians with their ranges, without its end. */
export const describeRanges = (rounds: number, machine: MachineFacts): string =>
  `Medians, with minimum and maximum below, of ${describeRun(rounds, machine)}`;

/** The number of rounds, and the machine. */
function describeRun(rounds: number, { cpuCount, node, kernel }: MachineFacts): string {
  return `${formatCount(rounds, 'round')}, ${formatCount(cpuCount, 'core')}, Node ${node.replace('v', '')}, ${kernel}`;
}
