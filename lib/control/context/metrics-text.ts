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

  /** Adds the series of a histogram; none if it is empty. */
  addHistogram(metric: Metric, labels: string, { bounds, counts, count, sumMs }: Histogram): void {
    if (count === 0) return;
    const { name } = metric;
    const lines = this.#linesOf(metric);
    let cumulative = 0;
    for (const [index, inBucket] of counts.entries()) {
      cumulative += inBucket;
      lines.add(`${name}_bucket{${labels},le="${bounds[index] ?? '+Inf'}"} ${cumulative}\n`);
    }
    lines.add(`${name}_sum{${labels}} ${formatValue(sumMs / 1000)}\n${name}_count{${labels}} ${count}\n`);
  }

  /** The page. */
  get bytes(): Buffer {
    return Buffer.concat([...this.#families.values()].map(({ bytes }) => bytes));
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

/** The least room for lines, in bytes; it is doubled as often as needed. */
const ROOM_BYTES = 1024;

/** A character takes at most this many bytes of UTF-8 for each of its units in a string. */
const MAX_UNIT_BYTES = 3;

/** Lines as bytes: as a string that grows, a page of thousands took six times as long. */
class Lines {
  #room = Buffer.allocUnsafe(ROOM_BYTES);
  #byteCount = 0;

  add(text: string): void {
    const neededBytes = this.#byteCount + MAX_UNIT_BYTES * text.length;
    if (neededBytes > this.#room.length) {
      const room = Buffer.allocUnsafe(2 * neededBytes);
      this.#room.copy(room, 0, 0, this.#byteCount);
      this.#room = room;
    }
    this.#byteCount += this.#room.write(text, this.#byteCount);
  }

  get bytes(): Buffer {
    return this.#room.subarray(0, this.#byteCount);
  }
}

const escapeHelp = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');

const escapeLabel = (text: string): string => escapeHelp(text).replaceAll('"', '\\"');

function formatValue(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}
