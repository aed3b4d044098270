/** Draws the screen of a terminal: text at its columns, in the colours of a light or a dark page. */
import { drawSvg, escapeXml, type Scheme } from './svg.js';

/** The screen to draw. */
export interface ScreenPicture {
  /** A description of the picture, for screen readers. */
  readonly title: string;
  /** In characters. */
  readonly columns: number;
  /** The lines from the top, with only the escape sequences of colours and styles. */
  readonly lines: readonly string[];
}

/** Consecutive characters of one style. */
interface Run {
  readonly column: number;
  readonly text: string;
  readonly classes: readonly string[];
}

/** Pixels. */
const CELL = { width: 8.4, height: 19 } as const;
const MARGIN = 16;
/** The height of an eighth of a block: bars of consecutive lines stay apart. */
const BAR_UNIT = 1.75;

/** The drawing, as text of an SVG file. */
export function drawScreen({ title, columns, lines }: ScreenPicture): string {
  const width = Math.ceil(columns * CELL.width) + 2 * MARGIN;
  const height = lines.length * CELL.height + 2 * MARGIN;
  const rows = runsOf(lines).map(drawRow);
  return drawSvg({ title, width, height }, styleOf, rows.filter(Boolean));
}

function styleOf({ background, text, terminal }: Scheme): string {
  const colors = terminal.map((color, index) => `.c${index} { fill: ${color} }`);
  return `${colors.join('\n')}\nrect.reverse { fill: ${text} }\ntext.reverse { fill: ${background} }`;
}

function drawRow(runs: readonly Run[], row: number): string {
  const top = MARGIN + row * CELL.height;
  const drawn = runs.map(({ column, text, classes }) => {
    const at = `x="${xOf(column)}" y="${top}" width="${widthOf(text)}" height="${CELL.height}"`;
    const style = classes.length === 0 ? '' : ` class="${classes.join(' ')}"`;
    // Columns must not depend on the font, nor bars, which some fonts lack.
    const words = [...text.matchAll(/[▁-█]+|[^\s▁-█]+(?: [^\s▁-█]+)*/g)].map(({ 0: part, index }) => {
      const x = xOf(column + lengthOf(text.slice(0, index)));
      if (part >= '▁' && part <= '██') return drawBars(part, x, top);
      return `<text${style} x="${x}" y="${top + 14}" textLength="${widthOf(part)}" lengthAdjust="spacingAndGlyphs">${escapeXml(part)}</text>`;
    });
    return `${classes.includes('reverse') ? `<rect class="reverse" ${at}/>` : ''}${words.join('')}`;
  });
  return drawn.every((part) => part === '') ? '' : `<g>${drawn.join('')}</g>`;
}

/** Draws the characters from one to eight eighths of a block, with a gap between them. */
function drawBars(text: string, x: number, top: number): string {
  const bars = Array.from(text, (bar, at) => {
    const height = (bar.charCodeAt(0) - 0x2580) * BAR_UNIT;
    return `M${round(x + at * CELL.width)} ${top + 16}v-${height}h${CELL.width - 1.4}v${height}z`;
  });
  return `<path class="bars" d="${bars.join('')}"/>`;
}

/** Splits lines where their style changes; styles continue across lines. */
function runsOf(lines: readonly string[]): Run[][] {
  let classes: readonly string[] = [];
  return lines.map((line) => {
    const runs: Run[] = [];
    let column = 0;
    // biome-ignore lint/suspicious/noControlCharactersInRegex: escape sequences begin with one.
    for (const part of line.split(/(\u001b\[[0-9;]*m)/)) {
      if (part.startsWith('\u001b')) classes = nextClasses(classes, part.slice(2, -1));
      else {
        if (part !== '') runs.push({ column, text: part, classes });
        column += lengthOf(part);
      }
    }
    return runs;
  });
}

/** The classes after a sequence of SGR. */
function nextClasses(before: readonly string[], parameters: string): readonly string[] {
  let classes = before;
  const without = (...names: readonly string[]): readonly string[] => classes.filter((name) => !names.includes(name));
  const withoutColor = (): readonly string[] => classes.filter((name) => !/^c\d$/.test(name));
  for (const code of parameters.split(';').map(Number)) {
    if (code === 0) classes = [];
    else if (code === 1) classes = [...without('bold'), 'bold'];
    else if (code === 2) classes = [...without('dim'), 'dim'];
    else if (code === 7) classes = [...without('reverse'), 'reverse'];
    else if (code === 22) classes = without('bold', 'dim');
    else if (code === 27) classes = without('reverse');
    else if (code === 39) classes = withoutColor();
    else if (code >= 30 && code <= 37) classes = [...withoutColor(), `c${code - 30}`];
    else if (code >= 90 && code <= 97) classes = [...withoutColor(), `c${code - 90}`];
  }
  return classes;
}

/**
 * The words of a drawing, line by line, without the parts that differ between recordings: figures and their units, bars, and
 * column spacing.
 */
export function wordsOfScreen(svg: string): string[] {
  return [...svg.matchAll(/<g>(.*)<\/g>/g)].map(([, row = '']) =>
    [...row.matchAll(/<text[^>]*>([^<]*)<\/text>/g)]
      .map(([, text = '']) => text)
      .join(' ')
      .replace(/\d[\d.,:]*/g, '0')
      .replace(/\b0 ?(?:[kKMG]?i?B|µs|ms|s|m|h)\b/g, '0')
      .replace(/\s+/g, ' ')
      .trim(),
  );
}

/** In columns: no character here is double-width. */
const lengthOf = (text: string): number => Array.from(text).length;
const xOf = (column: number): number => round(MARGIN + column * CELL.width);
const widthOf = (text: string): number => round(lengthOf(text) * CELL.width);
const round = (value: number): number => Math.round(value * 10) / 10;
