/** The table of figures: a row for each, a column for each contender, and below each median the range of its rounds. */
import type { Cell, ResultRow, Results } from '../results.js';
import { formatTable } from '../table.js';
import { NOT_TRIED } from '../work/work.js';
import { formatFigure } from './format-figure.js';

/** A column. */
export interface Column {
  readonly id: string;
  readonly title: string;
}

/** A row with a cell for each column: the median, and the range of its rounds, which may be empty. */
export interface FigureLine {
  readonly title: string;
  readonly cells: readonly (readonly [median: string, range: string])[];
}

/** Returns the rows that apply. A column in `missing` is marked in every cell. */
export function figureLines(
  rows: readonly ResultRow[],
  columns: readonly Column[],
  missing: Pick<ReadonlySet<string>, 'has'>,
  results: Results,
): FigureLine[] {
  return rows
    .filter((row) => columns.some(({ id }) => missing.has(id) || results.cell(row.work, row.key, id) !== undefined))
    .map((row) => ({
      title: row.unit === '' ? row.title : `${row.title}, ${row.unit}`,
      cells: columns.map(({ id }) =>
        missing.has(id) ? (['missing', ''] as const) : formatCell(results.cell(row.work, row.key, id)),
      ),
    }));
}

/** The table as text. */
export function formatFigures(...given: Parameters<typeof figureLines>): string {
  const [, columns] = given;
  const lines = figureLines(...given).flatMap(({ title, cells }) => {
    const first = [title, ...cells.map(([median]) => median)];
    return cells.some(([, range]) => range !== '') ? [first, ['', ...cells.map(([, range]) => range)]] : [first];
  });
  return formatTable([['', ...columns.map(({ title }) => title)], ...lines]);
}

/** Lists the reasons of failures, each once: a line for contender, work and reason. */
export function formatFailures(rows: readonly ResultRow[], columns: readonly Column[], results: Results): string[] {
  const lines = rows.flatMap((row) =>
    columns.flatMap(({ id, title }) => {
      const failure = results.cell(row.work, row.key, id)?.failure;
      return failure === undefined ? [] : [`${title}, ${row.work}: ${failure}`];
    }),
  );
  return [...new Set(lines)];
}

/** A median alone. */
export const formatMedian = (cell: Cell | undefined): string => formatCell(cell)[0];

function formatCell(cell: Cell | undefined): [string, string] {
  if (cell === undefined) return ['–', ''];
  const { summary, failure } = cell;
  if (summary === undefined) return [failure?.startsWith(NOT_TRIED) ? NOT_TRIED : 'fails', ''];
  const mark = failure === undefined ? '' : ' !';
  const range = summary.min === summary.max ? '' : `${formatFigure(summary.min)}–${formatFigure(summary.max)}`;
  return [formatFigure(summary.median) + mark, range];
}
