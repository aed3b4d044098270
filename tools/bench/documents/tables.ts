/** Tables of figures and targets for the documents. */
import { type BarResult, barCells } from '../report/bars.js';
import { type Column, figureLines, formatMedian } from '../report/figures-table.js';
import type { ResultRow, Results } from '../results.js';

/** A row of medians: its title, and its figure. */
export interface LeadRow {
  readonly title: string;
  readonly work: string;
  readonly key: string;
}

/** The columns, and the source of their figures. */
export interface TableFigures {
  readonly columns: readonly Column[];
  readonly missing: Pick<ReadonlySet<string>, 'has'>;
  readonly results: Results;
}

/** A table of medians alone. */
export function formatMedians(rows: readonly LeadRow[], { columns, missing, results }: TableFigures): string {
  return formatMarkdownTable([
    ['', ...columns.map(({ title }) => title)],
    ...rows.map(({ title, work, key }) => [
      title,
      ...columns.map(({ id }) => (missing.has(id) ? 'missing' : formatMedian(results.cell(work, key, id)))),
    ]),
  ]);
}

/** A table of all rows: each median, with minimum and maximum below. */
export function formatRanges(rows: readonly ResultRow[], { columns, missing, results }: TableFigures): string {
  const lines = figureLines(rows, columns, missing, results).map(({ title, cells }) => [
    title.replace(/^ +/, '&emsp;'),
    ...cells.map(([median, range]) => (range === '' ? median : `${median}<br>${range}`)),
  ]);
  return formatMarkdownTable([['', ...columns.map(({ title }) => title)], ...lines]);
}

/** The number of targets, and the missed ones; empty when no figure was measured. */
export function formatBarTable(bars: readonly BarResult[]): string {
  const measured = bars.filter(({ ratio }) => ratio !== undefined);
  if (measured.length === 0) return '';
  const missed = measured.filter(({ isMet }) => isMet !== true);
  const count = `${missed.length} of ${measured.length} targets missed`;
  if (missed.length === 0) return `${count}.`;
  return `${count}:\n\n${formatMarkdownTable([['', 'medians of', 'figure', 'target'], ...missed.map(barCells)])}`;
}

/** Rows of cells, the first of them the heading. */
function formatMarkdownTable([heading = [], ...rows]: readonly (readonly string[])[]): string {
  return [heading, heading.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`.replaceAll('|  |', '| |'))
    .join('\n');
}
