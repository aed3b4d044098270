/** Tables of figures and targets for the documents: the most important rows, and the rest folded below. */
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

/** Text that readers open. */
export function formatFolded(summary: string, content: string): string {
  return `<details>\n<summary>${summary}</summary>\n\n${content}\n\n</details>`;
}

/** The missed targets, and below them those that are met, folded; empty when no figure was measured. */
export function formatBarTables(bars: readonly BarResult[]): string {
  const measured = bars.filter(({ ratio }) => ratio !== undefined);
  if (measured.length === 0) return '';
  const tableOf = (some: readonly BarResult[]): string =>
    formatMarkdownTable([['', 'medians of', 'figure', 'target'], ...some.map(barCells)]);
  const missed = measured.filter(({ isMet }) => isMet !== true);
  const met = measured.filter(({ isMet }) => isMet === true);
  const count = `${missed.length} of ${measured.length} targets missed`;
  return [
    missed.length > 0 ? `${count}:\n\n${tableOf(missed)}` : `${count}.`,
    ...(met.length > 0 ? [formatFolded(`Targets met: ${met.length}`, tableOf(met))] : []),
  ].join('\n\n');
}

/** Rows of cells, the first of them the heading. */
function formatMarkdownTable([heading = [], ...rows]: readonly (readonly string[])[]): string {
  return [heading, heading.map(() => '---'), ...rows]
    .map((cells) => `| ${cells.join(' | ')} |`.replaceAll('|  |', '| |'))
    .join('\n');
}
