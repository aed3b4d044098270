/** Facts in columns. */
import { escapeText } from '../../lib/util/escape.js';
import { fitText, textWidth, truncateText } from './text-width.js';

/** One column. */
export interface Column {
  readonly title: string;
  /** Default `left`. */
  readonly align?: 'left' | 'right';
  /** It gives way where the lines are too long, but keeps so many columns. Default: it never gives way. */
  readonly leastWidth?: number;
}

/** Between two columns. */
const GAP = 2;

/** One line for the titles, and one for each row, of at most `width` columns (null: of any). Cells are escaped. */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width: number | null,
): string[] {
  const lines = [columns.map(({ title }) => title), ...rows.map((row) => row.map((cell) => escapeText(cell)))];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => textWidth(line[index] ?? ''))));
  if (width !== null) shrink(columns, widths, width);
  return lines.map((line) => {
    const cells = columns.map(({ align }, index) => fitText(line[index] ?? '', widths[index] ?? 0, align));
    const text = cells.join(' '.repeat(GAP)).trimEnd();
    return width === null ? text : truncateText(text, width);
  });
}

/** Takes columns of width from the widest of those that give way, until the lines fit or none is left. */
function shrink(columns: readonly Column[], widths: number[], width: number): void {
  const total = (): number => widths.reduce((sum, one) => sum + one + GAP, -GAP);
  for (let excess = total() - width; excess > 0; excess--) {
    let widest = -1;
    for (const [index, { leastWidth, title }] of columns.entries()) {
      const least = leastWidth === undefined ? Number.POSITIVE_INFINITY : Math.max(leastWidth, title.length);
      const one = widths[index] ?? 0;
      if (one > least && one > (widths[widest] ?? 0)) widest = index;
    }
    if (widest === -1) return;
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
}
