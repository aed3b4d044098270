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

/** The texts of labels that counters keep. */
const texts = new WeakMap<Labels, string>();

/** The text of labels, to be followed by others after a comma. */
export function labelText(labels: Labels): string {
  const known = texts.get(labels);
  if (known !== undefined) return known;
  const text = Object.entries(labels)
    .map(([name, value]) => `${name}="${escapeLabel(value)}"`)
    .join(',');
  texts.set(labels, text);
  return text;
}

/** Collects series by metric; a metric without series does not appear. */
export class MetricsText {
  /** In the order in which they were first used. */
  readonly #lines = new Map<Metric, string>();

  /** Adds a series; `labels`: see {@link labelText}. */
  add(metric: Metric, labels: string, value: number): void {
    this.#append(metric, `${metric.name}${labels === '' ? '' : `{${labels}}`} ${formatValue(value)}\n`);
  }

  /** Adds the series of a histogram, which always has the same labels; none if it is empty. */
  addHistogram(metric: Metric, labels: string, histogram: Histogram): void {
    if (histogram.count === 0) return;
    const kept = formatted.get(histogram);
    const lines = kept?.count === histogram.count ? kept.lines : formatHistogram(metric.name, labels, histogram);
    formatted.set(histogram, { count: histogram.count, lines });
    this.#append(metric, lines);
  }

  toString(): string {
    let text = '';
    for (const [{ name, type, help }, lines] of this.#lines)
      text += `# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n${lines}`;
    return text;
  }

  #append(metric: Metric, lines: string): void {
    this.#lines.set(metric, `${this.#lines.get(metric) ?? ''}${lines}`);
  }
}

/** The lines of histograms as last formatted: few change from one page to the next, and they are most of a page. */
const formatted = new WeakMap<Histogram, { readonly count: number; readonly lines: string }>();

function formatHistogram(name: string, labels: string, { bounds, counts, count, sumMs }: Histogram): string {
  let [cumulative, lines] = [0, ''];
  for (const [index, inBucket] of counts.entries()) {
    cumulative += inBucket;
    lines += `${name}_bucket{${labels},le="${bounds[index] ?? '+Inf'}"} ${cumulative}\n`;
  }
  return `${lines}${name}_sum{${labels}} ${formatValue(sumMs / 1000)}\n${name}_count{${labels}} ${count}\n`;
}

const escapeHelp = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');

const escapeLabel = (text: string): string => escapeHelp(text).replaceAll('"', '\\"');

function formatValue(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}
