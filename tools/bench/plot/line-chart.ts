/** Line charts as self-contained SVG: axes with titles and units, lines, marks, a legend. */
import { type Scale, type ScaleKind, scaleFor } from './scale.js';

export interface Axis {
  /** What the values are, with their unit: `resident memory, MB`. */
  readonly title: string;
  /** Default linear. A linear axis begins at 0, or below if there are negative values. */
  readonly scale?: ScaleKind;
}

export interface Series {
  /** For the legend. */
  readonly name: string;
  /** In the order of the line. A value without a place (NaN) leaves a gap. */
  readonly points: readonly { readonly x: number; readonly y: number }[];
}

/** An event at one value of the x axis: a vertical line with a tooltip. */
export interface Mark {
  readonly x: number;
  readonly text: string;
}

export interface LineChart {
  readonly title: string;
  readonly x: Axis;
  readonly y: Axis;
  readonly series: readonly Series[];
  /** Default: none. */
  readonly marks?: readonly Mark[];
  /** Whether each point has a dot, useful for few points. Default: no. */
  readonly hasDots?: boolean;
}

const WIDTH = 960;
const HEIGHT = 360;
const PLOT = { left: 80, right: 20, top: 60, bottom: 50 } as const;
const PLOT_WIDTH = WIDTH - PLOT.left - PLOT.right;
const PLOT_HEIGHT = HEIGHT - PLOT.top - PLOT.bottom;

/** Colours that are distinguishable with red-green colour blindness, too (Okabe and Ito). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7', '#56b4e9', '#e69f00', '#000000'] as const;

/** Styles for a dark page. */
const DARK = `<style>
@media (prefers-color-scheme: dark) {
rect { fill: #14171c }
text { fill: #e3e7ec }
[stroke="#dddddd"] { stroke: #3a434f }
[stroke="#000000"] { stroke: #ffffff }
[fill="#000000"] { fill: #ffffff }
}
</style>
`;

/** An SVG document with the charts below one another. */
export function formatLineCharts(charts: readonly LineChart[]): string {
  const height = HEIGHT * charts.length;
  const panels = charts.map(
    (chart, index) => `<g transform="translate(0 ${HEIGHT * index})">\n${formatChart(chart)}</g>\n`,
  );
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="12">
${DARK}<rect width="${WIDTH}" height="${height}" fill="white"/>
${panels.join('')}</svg>
`;
}

function formatChart({ title, x, y, series, marks = [], hasDots = false }: LineChart): string {
  const points = series.flatMap((line) => line.points);
  const xScale = scaleFor(x.scale ?? 'linear', [...points.map((point) => point.x), ...marks.map((mark) => mark.x)]);
  const yScale = scaleFor(
    y.scale ?? 'linear',
    points.map((point) => point.y),
  );
  const middle = { x: PLOT.left + PLOT_WIDTH / 2, y: PLOT.top + PLOT_HEIGHT / 2 };
  return [
    text(WIDTH / 2, 22, title, 'text-anchor="middle" font-size="15"'),
    text(middle.x, HEIGHT - 10, x.title, 'text-anchor="middle"'),
    text(0, 0, y.title, `text-anchor="middle" transform="translate(16 ${middle.y}) rotate(-90)"`),
    ...xScale.ticks.map((tick) => formatXTick(xScale, tick)),
    ...yScale.ticks.map((tick) => formatYTick(yScale, tick)),
    ...marks.map((mark) => formatMark(xScale, mark)),
    ...series.map((line, index) => formatLine(xScale, yScale, line, colour(index))),
    ...(hasDots ? series.map((line, index) => formatDots(xScale, yScale, line, colour(index))) : []),
    ...series.map((line, index) => formatLegend(line, index)),
  ].join('');
}

function formatXTick(scale: Scale, tick: number): string {
  const x = xPlace(scale, tick);
  const bottom = PLOT.top + PLOT_HEIGHT;
  return line(x, PLOT.top, x, bottom, '#dddddd') + text(x, bottom + 16, formatNumber(tick), 'text-anchor="middle"');
}

function formatYTick(scale: Scale, tick: number): string {
  const y = yPlace(scale, tick);
  const label = text(PLOT.left - 6, y + 4, formatNumber(tick), 'text-anchor="end"');
  return line(PLOT.left, y, PLOT.left + PLOT_WIDTH, y, '#dddddd') + label;
}

function formatMark(scale: Scale, { x, text: what }: Mark): string {
  const place = xPlace(scale, x);
  const attributes = `x1="${place}" y1="${PLOT.top}" x2="${place}" y2="${PLOT.top + PLOT_HEIGHT}"`;
  return `<line ${attributes} stroke="#999999" stroke-dasharray="2 3"><title>${escapeXml(what)}</title></line>\n`;
}

function formatLine(xScale: Scale, yScale: Scale, { points }: Series, stroke: string): string {
  let path = '';
  let isDrawing = false;
  for (const point of points) {
    const [x, y] = [xPlace(xScale, point.x), yPlace(yScale, point.y)];
    const hasPlace = Number.isFinite(x) && Number.isFinite(y);
    if (hasPlace) path += `${isDrawing ? 'L' : 'M'}${x} ${y}`;
    isDrawing = hasPlace;
  }
  return `<path d="${path}" fill="none" stroke="${stroke}" stroke-width="1.5"/>\n`;
}

function formatDots(xScale: Scale, yScale: Scale, { points }: Series, fill: string): string {
  return points
    .map((point) => [xPlace(xScale, point.x), yPlace(yScale, point.y)] as const)
    .filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y))
    .map(([x, y]) => `<circle cx="${x}" cy="${y}" r="3" fill="${fill}"/>\n`)
    .join('');
}

function formatLegend({ name }: Series, index: number): string {
  const x = PLOT.left + index * 160;
  return line(x, 42, x + 24, 42, colour(index)) + text(x + 30, 46, name, '');
}

const colour = (index: number): string => COLOURS[index % COLOURS.length] ?? 'black';

const xPlace = (scale: Scale, value: number): number => round(PLOT.left + scale.place(value) * PLOT_WIDTH);

const yPlace = (scale: Scale, value: number): number => round(PLOT.top + (1 - scale.place(value)) * PLOT_HEIGHT);

const round = (value: number): number => Math.round(value * 10) / 10;

const line = (x1: number, y1: number, x2: number, y2: number, stroke: string): string =>
  `<line x1="${x1}" y1="${y1}" x2="${x2}" y2="${y2}" stroke="${stroke}"/>\n`;

const text = (x: number, y: number, content: string, attributes: string): string =>
  `<text x="${x}" y="${y}" ${attributes}>${escapeXml(content)}</text>\n`;

const formatNumber = (value: number): string => value.toLocaleString('en', { maximumSignificantDigits: 6 });

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

const escapeXml = (content: string): string => content.replace(/[&<>"]/g, (character) => ENTITIES[character] ?? '');
