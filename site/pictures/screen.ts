/** Draws the screen of a terminal: text at its columns, in the colours of a light or a dark page. */

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
const FONT_SIZE = 14;

/** The colours of a terminal, 0 to 7, in both schemes, in contrast with the background. */
const COLORS = {
  light: ['#1d2229', '#b42318', '#17692f', '#8a5a00', '#0b5cad', '#86309b', '#0b6a73', '#55606d'],
  dark: ['#a7b1bd', '#ff8f85', '#7ee2a0', '#f2c464', '#74b6ff', '#dfa0f2', '#6fdde6', '#e3e7ec'],
} as const;
const PAGE = {
  light: { background: '#f5f7fa', frame: '#c3ccd6', text: '#1d2229' },
  dark: { background: '#1d2229', frame: '#3a434f', text: '#e3e7ec' },
} as const;

/** The drawing, as text of an SVG file. */
export function drawScreen({ title, columns, lines }: ScreenPicture): string {
  const size = { width: Math.ceil(columns * CELL.width) + 2 * MARGIN, height: lines.length * CELL.height + 2 * MARGIN };
  const rows = runsOf(lines).map(drawRow);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${size.width} ${size.height}" width="${size.width}" height="${size.height}" role="img" aria-labelledby="title" font-family="ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', 'Liberation Mono', monospace" font-size="${FONT_SIZE}">`,
    `<title id="title">${escapeXml(title)}</title>`,
    '<style>',
    styleOf('light'),
    `@media (prefers-color-scheme: dark) {\n${styleOf('dark')}\n}`,
    '.bold { font-weight: 700 }\n.dim { opacity: 0.75 }',
    '</style>',
    `<rect class="page" x="0.5" y="0.5" width="${size.width - 1}" height="${size.height - 1}" rx="8"/>`,
    ...rows.filter((row) => row !== ''),
    '</svg>\n',
  ].join('\n');
}

function styleOf(scheme: 'light' | 'dark'): string {
  const { background, frame, text } = PAGE[scheme];
  const colors = COLORS[scheme].map((color, index) => `.c${index} { fill: ${color} }`);
  return [
    `.page { fill: ${background}; stroke: ${frame} }`,
    `text { fill: ${text} }`,
    ...colors,
    `rect.reverse { fill: ${text} }\ntext.reverse { fill: ${background} }`,
  ].join('\n');
}

function drawRow(runs: readonly Run[], row: number): string {
  const top = MARGIN + row * CELL.height;
  const drawn = runs.map(({ column, text, classes }) => {
    const at = `x="${xOf(column)}" y="${top}" width="${widthOf(text)}" height="${CELL.height}"`;
    const style = classes.length === 0 ? '' : ` class="${classes.join(' ')}"`;
    // Columns must not depend on the font.
    const words = [...text.matchAll(/\S+(?: \S+)*/g)].map(
      ({ 0: part, index }) =>
        `<text${style} x="${xOf(column + lengthOf(text.slice(0, index)))}" y="${top + 14}" textLength="${widthOf(part)}" lengthAdjust="spacingAndGlyphs">${escapeXml(part)}</text>`,
    );
    return `${classes.includes('reverse') ? `<rect class="reverse" ${at}/>` : ''}${words.join('')}`;
  });
  return drawn.every((part) => part === '') ? '' : `<g>${drawn.join('')}</g>`;
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
      .replace(/[▁▂▃▄▅▆▇█]+/g, '')
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

const escapeXml = (text: string): string =>
  text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
