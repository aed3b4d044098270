/** Figures of several runs, and their table. */

/** Median (of an even number, the mean of the two in the middle), smallest and largest of some figures. */
export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

export function summarize(figures: readonly number[]): Summary {
  const sorted = [...figures].sort((a, b) => a - b);
  const at = (index: number): number => sorted[index] ?? Number.NaN;
  const middle = sorted.length / 2;
  const median = (at(Math.ceil(middle) - 1) + at(Math.floor(middle))) / 2;
  return { median, min: at(0), max: at(sorted.length - 1) };
}

export const formatSummary = ({ median, min, max }: Summary): string =>
  `${formatFigure(median)} (${formatFigure(min)}–${formatFigure(max)})`;

const formatFigure = (figure: number): string => (figure < 100 ? figure.toFixed(1) : figure.toFixed(0));

/** Rows of cells in columns as wide as their widest cell; the first row is the heading. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const columns = rows[0]?.length ?? 0;
  const widths = Array.from({ length: columns }, (_, column) =>
    Math.max(...rows.map((row) => (row[column] ?? '').length)),
  );
  const line = (row: readonly string[]): string =>
    row
      .map((cell, column) => cell.padEnd(widths[column] ?? 0))
      .join('  ')
      .trimEnd();
  const [heading = [], ...rest] = rows;
  return [line(heading), widths.map((width) => '-'.repeat(width)).join('  '), ...rest.map(line)].join('\n');
}
