/** Text in columns: its width in a terminal, truncation and wrapping. */
import { eastAsianWidth } from 'get-east-asian-width';
import { escapeText } from '../../lib/util/escape.js';
import { type Paint, paintNothing, type Tone } from './color.js';

export interface Column<T> {
  readonly title: string;
  readonly cell: (item: T) => string;
  /** Default `left`. */
  readonly align?: 'left' | 'right';
  /** It shrinks down to this width if the lines are too long. Default: it never shrinks. */
  readonly leastWidth?: number;
  /** Whether only a wide table has it. Default false. */
  readonly isWide?: boolean;
  /** The tone of a cell, which takes no room. Default: none. */
  readonly toneOf?: (cell: string) => Tone | null;
}

/** The columns of a table that is wide or not. */
export const columnsFor = <T>(columns: readonly Column<T>[], isWide: boolean): readonly Column<T>[] =>
  columns.filter((column) => isWide || column.isWide !== true);

/** Between two columns. */
const GAP = 2;

/**
 * Formats a line with the titles, and one for each of `items`, of at most `width` columns (null: unlimited). Cells are
 * escaped, and painted by `paint`.
 */
export function formatTable<T>(
  columns: readonly Column<T>[],
  items: readonly T[],
  width: number | null,
  paint: Paint = paintNothing,
): string[] {
  const rows = items.map((item) => columns.map(({ cell }) => cell(item)));
  const lines = [columns.map(({ title }) => title), ...rows.map((row) => row.map((cell) => escapeText(cell)))];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => textWidth(line[index] ?? ''))));
  if (width !== null) shrink(columns, widths, width);
  return lines.map((line, at) => {
    const cells = columns.map(({ align }, index) => fitText(line[index] ?? '', widths[index] ?? 0, align));
    const text = cells.join(' '.repeat(GAP)).trimEnd();
    const cut = width === null ? text : truncateText(text, width);
    return at === 0 ? cut : paintCells(cut, columns, cells, rows[at - 1] ?? [], paint);
  });
}

/** Paints the cells of a line, except those truncated at its end. */
function paintCells(
  line: string,
  columns: readonly Pick<Column<never>, 'toneOf'>[],
  cells: readonly string[],
  row: readonly string[],
  paint: Paint,
): string {
  let painted = '';
  let at = 0;
  for (const [index, cell] of cells.entries()) {
    const end = at + cell.length;
    const shown = line.slice(at, end);
    const tone = columns[index]?.toneOf?.(row[index] ?? '') ?? null;
    const words = shown.trim();
    painted += shown === cell.slice(0, shown.length) ? shown.replace(words, () => paint(words, tone)) : shown;
    painted += line.slice(end, end + GAP);
    at = end + GAP;
  }
  return painted;
}

/** Shrinks the widest of the columns that may shrink, until the lines fit or none can shrink further. */
function shrink(
  columns: readonly Pick<Column<never>, 'title' | 'leastWidth'>[],
  widths: number[],
  width: number,
): void {
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

/** Formats a line for each fact, with its name in front, of at most `width` columns (null: unlimited). */
export function formatFacts(
  facts: readonly (readonly [name: string, value: string])[],
  width: number | null,
): string[] {
  const nameWidth = Math.max(...facts.map(([name]) => name.length));
  const lines = facts.map(([name, value]) => `${name.padEnd(nameWidth)}  ${value}`);
  return width === null ? lines : lines.map((line) => truncateText(line, width));
}

// The width of a text in a terminal.

/** Characters of width 0: combining marks, and ignorable characters. */
const INVISIBLE = /^[\p{Nonspacing_Mark}\p{Enclosing_Mark}\p{Default_Ignorable_Code_Point}\p{Format}]$/u;

/** The width of a text, in columns. */
export function textWidth(text: string): number {
  let width = 0;
  for (const character of text) width += characterWidth(character);
  return width;
}

/** Truncates a text to `width` columns, with an ellipsis. */
export function truncateText(text: string, width: number): string {
  if (textWidth(text) <= width) return text;
  let cut = '';
  let used = 1;
  for (const character of text) {
    used += characterWidth(character);
    if (used > width) break;
    cut += character;
  }
  return width < 1 ? '' : `${cut}…`;
}

/** Truncates or pads a text to exactly `width` columns. */
export function fitText(text: string, width: number, align: 'left' | 'right' = 'left'): string {
  const cut = truncateText(text, width);
  const room = ' '.repeat(Math.max(0, width - textWidth(cut)));
  return align === 'left' ? cut + room : room + cut;
}

function characterWidth(character: string): number {
  if (character < '\u0300') return 1;
  return INVISIBLE.test(character) ? 0 : eastAsianWidth(character.codePointAt(0) ?? 0);
}

/** Wraps a text into lines of at most `width` characters; a longer word gets a line of its own. */
export function wrapText(text: string, width: number): string[] {
  return wrapPieces(text.split(' '), width);
}

/** The same for pieces that are not broken up. */
export function wrapPieces(pieces: readonly string[], width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of pieces) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}
