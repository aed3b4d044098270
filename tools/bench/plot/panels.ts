/** A board of small time charts as SVG, three in a row, with units at their axes, for light and dark pages. */
import { scaleFor } from './scale.js';

/** One chart. */
export interface Panel {
  readonly title: string;
  /** As Grafana calls them; see `UNITS`. Others are plain numbers. */
  readonly unit: string;
  /** Whether the series are stacked, as areas. */
  readonly isStacked: boolean;
  readonly series: readonly PanelSeries[];
}

export interface PanelSeries {
  readonly name: string;
  /** x in seconds from the board's start, in rising order. */
  readonly points: readonly PanelPoint[];
}

interface PanelPoint {
  readonly x: number;
  readonly y: number;
}

export interface Board {
  readonly title: string;
  readonly subtitle: string;
  /** Events at a number of seconds: a line in each panel, explained above them. */
  readonly marks: readonly { readonly x: number; readonly text: string }[];
  readonly panels: readonly Panel[];
  /** The length of all time axes. */
  readonly seconds: number;
}

const COLUMNS = 3;
const CELL = { width: 330, height: 226 } as const;
const WIDTH = CELL.width * COLUMNS;
/** Of a chart within its cell. */
const PLOT = { left: 62, right: 14, top: 34, bottom: 62 } as const;
const PLOT_WIDTH = CELL.width - PLOT.left - PLOT.right;
const PLOT_HEIGHT = CELL.height - PLOT.top - PLOT.bottom;
const LINE = 17;
/** Of letters of 11 px, on average. */
const LETTER = 6;

/** Okabe and Ito's colours except black, distinguishable with red-green colour blindness; and the same for a dark page. */
const COLOURS = [
  ['#0072b2', '#4aa8e0'],
  ['#d55e00', '#f08a3c'],
  ['#009e73', '#2ec99d'],
  ['#b5568f', '#dd9cc3'],
  ['#8a6d00', '#e6c34a'],
  ['#4b5563', '#b6bec9'],
  ['#7a4fd0', '#b39bf0'],
] as const;

const style = (name: string, index: 0 | 1): string =>
  COLOURS.map((pair, number) => `.${name}${number}{${name === 'l' ? 'stroke' : 'fill'}:${pair[index]}}`).join('');

const STYLE = `.page{fill:#ffffff}.cell{fill:none;stroke:#d5dae1}.text{fill:#1f2937}.faint{fill:#5b6574}.grid{stroke:#e7eaee}.mark{stroke:#8a94a6}${style('l', 0)}${style('f', 0)}
@media (prefers-color-scheme: dark) {.page{fill:#14181f}.cell{stroke:#343c48}.text{fill:#e5e9ef}.faint{fill:#9aa5b4}.grid{stroke:#262d37}.mark{stroke:#76818f}${style('l', 1)}${style('f', 1)}}`;

/** Steps of a unit, the smallest first; an axis uses the largest that does not exceed its top. */
const BYTES = [
  [1, 'B'],
  [1e3, 'kB'],
  [1e6, 'MB'],
  [1e9, 'GB'],
] as const;
const UNITS: Readonly<Record<string, readonly (readonly [number, string])[]>> = {
  bytes: BYTES,
  Bps: BYTES.map(([factor, name]) => [factor, `${name}/s`] as const),
  s: [
    [1e-6, 'µs'],
    [1e-3, 'ms'],
    [1, 's'],
  ],
  percentunit: [[0.01, '%']],
  cps: [[1, '/s']],
};

/** Draws a self-contained SVG document. */
export function formatPanels({ title, subtitle, marks, panels, seconds }: Board): string {
  const top = 62 + marks.length * LINE;
  const height = top + Math.ceil(panels.length / COLUMNS) * CELL.height + 8;
  const cells = panels.map((panel, index) => {
    const place = [(index % COLUMNS) * CELL.width, top + Math.floor(index / COLUMNS) * CELL.height] as const;
    return `<g transform="translate(${place[0]} ${place[1]})">\n${formatPanel(panel, marks, seconds)}</g>\n`;
  });
  const legend = marks.map(({ text }, index) => write(16, 68 + index * LINE, `${letter(index)}: ${text}`, 'text'));
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="11" role="img" aria-label="${escapeXml(title)}">
<style>${STYLE}</style>
<rect class="page" width="${WIDTH}" height="${height}" rx="8"/>
${write(16, 26, title, 'text', 'font-size="15" font-weight="600"')}${write(16, 45, subtitle, 'faint')}${legend.join('')}${cells.join('')}</svg>
`;
}

function formatPanel(panel: Panel, marks: Board['marks'], seconds: number): string {
  const lines = panel.isStacked ? stack(panel.series) : panel.series.map((one) => ({ ...one, base: [] }));
  const values = lines.flatMap(({ points }) => points.map(({ y }) => y));
  const most = Math.max(0, ...values.filter((value) => Number.isFinite(value)));
  const [factor, unit] = pickUnit(panel.unit, most);
  const scale = scaleFor('linear', [...values.map((value) => value / factor), ...(most === 0 ? [1] : [])]);
  const x = (at: number): number => round(PLOT.left + (at / seconds) * PLOT_WIDTH);
  const y = (value: number): number => round(PLOT.top + (1 - scale.place(value / factor)) * PLOT_HEIGHT);
  const bottom = PLOT.top + PLOT_HEIGHT;
  return [
    `<rect class="cell" x="6" y="6" width="${CELL.width - 12}" height="${CELL.height - 12}" rx="5"/>\n`,
    write(16, 24, panel.title, 'text', 'font-size="12" font-weight="600"'),
    ...thin(scale.ticks).map((tick) => {
      const place = y(tick * factor);
      const label = `${formatNumber(tick)}${unit === '' ? '' : ` ${unit}`}`;
      return (
        `<line class="grid" x1="${PLOT.left}" y1="${place}" x2="${PLOT.left + PLOT_WIDTH}" y2="${place}"/>` +
        write(PLOT.left - 5, place + 4, label, 'faint', 'text-anchor="end"')
      );
    }),
    ...minutes(seconds).map((minute) =>
      // The first and the last one stay within the chart.
      write(
        x(minute * 60),
        bottom + 14,
        `${minute} min`,
        'faint',
        `text-anchor="${minute === 0 ? 'start' : minute * 60 >= seconds ? 'end' : 'middle'}"`,
      ),
    ),
    ...marks.map(
      (mark, index) =>
        `<line class="mark" stroke-dasharray="2 3" x1="${x(mark.x)}" y1="${PLOT.top}" x2="${x(mark.x)}" y2="${bottom}"><title>${escapeXml(mark.text)}</title></line>` +
        write(x(mark.x) + 2, PLOT.top + 8, letter(index), 'faint', 'font-size="9"'),
    ),
    ...lines.map(({ points, base }, index) => formatLine(points, base, { x, y, colour: index % COLOURS.length })),
    ...formatLegend(panel.series.map(({ name }) => name)),
  ].join('');
}

/** Each series on top of those before it; one without a value counts as 0 there. */
function stack(series: readonly PanelSeries[]): (PanelSeries & { readonly base: readonly PanelPoint[] })[] {
  const times = [...new Set(series.flatMap(({ points }) => points.map((point) => point.x)))].sort((a, b) => a - b);
  let base = times.map((x) => ({ x, y: 0 }));
  return series.map(({ name, points }) => {
    const values = new Map(points.map((point) => [point.x, point.y]));
    const below = base;
    base = base.map((point) => ({ x: point.x, y: point.y + (values.get(point.x) ?? 0) }));
    return { name, points: base, base: below };
  });
}

interface Drawing {
  readonly x: (seconds: number) => number;
  readonly y: (value: number) => number;
  readonly colour: number;
}

/** A line, with gaps where points are missing; above a base, with the area between the two. */
function formatLine(points: readonly PanelPoint[], base: readonly PanelPoint[], { x, y, colour }: Drawing): string {
  const step = Math.min(...points.slice(1).map((point, index) => point.x - (points[index]?.x ?? 0)));
  let before = Number.NEGATIVE_INFINITY;
  let path = '';
  for (const point of points) {
    if (!Number.isFinite(point.y)) continue;
    path += `${point.x - before > step * 1.5 ? 'M' : 'L'}${x(point.x)} ${y(point.y)}`;
    before = point.x;
  }
  const line = `<path class="l${colour}" d="${path}" fill="none" stroke-width="1.4" stroke-linejoin="round"/>\n`;
  if (base.length === 0) return line;
  const back = [...base].reverse().map((point) => `L${x(point.x)} ${y(point.y)}`);
  return `<path class="f${colour}" d="${path}${back.join('')}Z" fill-opacity="0.3"/>\n${line}`;
}

/** Breaks into as many lines as fit; the last one has the number of omitted ones. */
function formatLegend(names: readonly string[]): string[] {
  const lines = 3;
  let [left, line] = [16, 0];
  const texts: string[] = [];
  for (const [index, name] of names.entries()) {
    const width = 16 + name.length * LETTER + 10;
    if (left + width > CELL.width - 10 && left > 16) [left, line] = [16, line + 1];
    if (line === lines) return texts;
    const y = CELL.height - PLOT.bottom + 30 + line * 13;
    texts.push(
      `<rect class="f${index % COLOURS.length}" x="${left}" y="${y - 6}" width="10" height="3"/>${write(left + 14, y, name, 'text')}`,
    );
    left += width;
  }
  return texts;
}

function pickUnit(name: string, most: number): readonly [number, string] {
  const steps = UNITS[name] ?? [[1, '']];
  return steps.findLast(([factor]) => factor <= most) ?? steps[0] ?? [1, ''];
}

/** Every second of many ticks. */
const thin = (ticks: readonly number[]): readonly number[] =>
  ticks.length <= 5 ? ticks : ticks.filter((_, index) => index % 2 === 0);

/** Whole minutes, at most six of them. */
function minutes(seconds: number): number[] {
  const step = Math.max(1, Math.ceil(seconds / 60 / 6));
  return Array.from({ length: Math.floor(seconds / 60 / step) + 1 }, (_, index) => index * step);
}

const letter = (index: number): string => String.fromCharCode(65 + index);

const round = (value: number): number => Math.round(value * 10) / 10;

const formatNumber = (value: number): string => value.toLocaleString('en', { maximumSignificantDigits: 4 });

const write = (x: number, y: number, content: string, name: string, attributes = ''): string =>
  `<text x="${x}" y="${round(y)}" class="${name}" ${attributes}>${escapeXml(content)}</text>\n`;

const ENTITIES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };

const escapeXml = (content: string): string => content.replace(/[&<>"]/g, (character) => ENTITIES[character] ?? '');
