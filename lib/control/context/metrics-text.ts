/** The text format of Prometheus, version 0.0.4. */
import type { Histogram, Labels } from '../../util/tally.js';

/** The Content-Type of the format. */
export const METRICS_TYPE = 'text/plain; version=0.0.4; charset=utf-8';

/** A metric: all series of one name. */
export interface Metric {
  /** With its unit, and `_total` for a counter. */
  readonly name: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  /** One sentence. */
  readonly help: string;
}

/** The text of labels, to be followed by others after a comma. */
export const labelText = (labels: Labels): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}="${escapeLabel(value)}"`)
    .join(',');

/** Collects series by metric; a metric without series does not appear. */
export class MetricsText {
  /** In the order in which they were first used. */
  readonly #families = new Map<Metric, Lines>();

  /** Adds a series; `labels`: see {@link labelText}. */
  add(metric: Metric, labels: string, value: number): void {
    const series = labels === '' ? metric.name : `${metric.name}{${labels}}`;
    this.#linesOf(metric).add(`${series} ${formatValue(value)}\n`);
  }

  /** Adds the series of a histogram, which has the same metric and labels each time; none if it is empty. */
  addHistogram(metric: Metric, labels: string, histogram: Histogram): void {
    if (histogram.count === 0) return;
    let made = HISTOGRAMS.get(histogram);
    if (made?.count !== histogram.count) {
      made = { count: histogram.count, bytes: histogramLines(metric, labels, histogram) };
      HISTOGRAMS.set(histogram, made);
    }
    this.#linesOf(metric).addBytes(made.bytes);
  }

  /** The page. */
  get bytes(): Buffer {
    return Buffer.concat([...this.#families.values()].flatMap(({ buffers }) => buffers));
  }

  #linesOf(metric: Metric): Lines {
    const known = this.#families.get(metric);
    if (known !== undefined) return known;
    const { name, type, help } = metric;
    const lines = new Lines();
    lines.add(`# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`);
    this.#families.set(metric, lines);
    return lines;
  }
}

/** The lines of each histogram, made when it counted `count`: most of a page, and few of them change from page to page. */
const HISTOGRAMS = new WeakMap<Histogram, { readonly count: number; readonly bytes: Buffer }>();

function histogramLines({ name }: Metric, labels: string, { bounds, counts, count, sumMs }: Histogram): Buffer {
  let lines = '';
  let cumulative = 0;
  for (const [index, inBucket] of counts.entries()) {
    cumulative += inBucket;
    lines += `${name}_bucket{${labels},le="${bounds[index] ?? '+Inf'}"} ${cumulative}\n`;
  }
  return Buffer.from(
    `${lines}${name}_sum{${labels}} ${formatValue(sumMs / 1000)}\n${name}_count{${labels}} ${count}\n`,
  );
}

/** The size of the buffers for lines. */
const ROOM_BYTES = 8192;

/** A character takes at most this many bytes of UTF-8 for each of its units in a string. */
const MAX_UNIT_BYTES = 3;

/** Lines as bytes: as a string that grows, a page of thousands took six times as long. */
class Lines {
  readonly #full: Buffer[] = [];
  #room = Buffer.allocUnsafe(ROOM_BYTES);
  #byteCount = 0;

  add(text: string): void {
    this.#makeRoom(MAX_UNIT_BYTES * text.length);
    this.#byteCount += this.#room.write(text, this.#byteCount);
  }

  addBytes(bytes: Buffer): void {
    this.#makeRoom(bytes.length);
    this.#room.set(bytes, this.#byteCount);
    this.#byteCount += bytes.length;
  }

  #makeRoom(byteCount: number): void {
    if (this.#byteCount + byteCount <= this.#room.length) return;
    this.#full.push(this.#room.subarray(0, this.#byteCount));
    this.#room = Buffer.allocUnsafe(Math.max(ROOM_BYTES, byteCount));
    this.#byteCount = 0;
  }

  get buffers(): Buffer[] {
    return [...this.#full, this.#room.subarray(0, this.#byteCount)];
  }
}

const escapeHelp = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');

const escapeLabel = (text: string): string => (/["\\\n]/.test(text) ? escapeHelp(text).replaceAll('"', '\\"') : text);

function formatValue(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}
