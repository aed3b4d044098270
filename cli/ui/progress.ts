/** The progress of a copy, on stderr where that is a terminal: one line that is redrawn; and its outcome. */
import type { CopyProgress } from '../../lib/copy/copy-progress.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatAge, formatBytes, formatCount, formatDuration, formatRate } from './print.js';
import { fitText, textWidth } from './table.js';

/** How often the line is drawn, in milliseconds. */
const REDRAW_MS = 100;

/** The number of drawings over which its rate is measured. */
const RATE_DRAWINGS = 30;

/** Shows a copy on stderr until it is stopped; only where stderr is a terminal. */
export class CopyDisplay {
  readonly #progress: CopyProgress;
  readonly #samples: { readonly atMs: number; readonly sentBytes: number }[] = [];
  readonly #timer: NodeJS.Timeout;
  #isHeld = false;

  constructor(progress: CopyProgress) {
    this.#progress = progress;
    this.#timer = setInterval(() => this.#draw(), REDRAW_MS);
    this.#timer.unref();
  }

  /** Makes room for another line. */
  clear(): void {
    process.stderr.write('\r\u001b[K');
  }

  /** Draws nothing while `work` lasts, which has the line for itself. */
  async holdFor<T>(work: Promise<T>): Promise<T> {
    this.#isHeld = true;
    try {
      return await work;
    } finally {
      this.#isHeld = false;
    }
  }

  stop(): void {
    clearInterval(this.#timer);
    this.clear();
  }

  #draw(): void {
    if (this.#isHeld) return;
    const now = performance.now();
    this.#samples.push({ atMs: now, sentBytes: this.#progress.sentBytes });
    if (this.#samples.length > RATE_DRAWINGS) this.#samples.shift();
    const [first] = this.#samples;
    const elapsedMs = first === undefined ? 0 : now - first.atMs;
    const rate = elapsedMs === 0 ? 0 : ((this.#progress.sentBytes - (first?.sentBytes ?? 0)) * 1000) / elapsedMs;
    // The last column stays free: a terminal may begin a new line after it.
    const width = (process.stderr.columns || 80) - 1;
    process.stderr.write(`\r${formatProgress(this.#progress, rate, width)}\u001b[K`);
  }
}

/** `app/a.txt    45%   1.2 MB   3.4 MB/s   12s left`, in at most `width` columns; `rate` is in bytes a second. */
export function formatProgress({ path, bytes, totals }: CopyProgress, rate: number, width: number): string {
  const facts = [formatBytes(bytes).padStart(7), formatRate(rate).padStart(9)];
  if (totals !== null) {
    const percent = totals.bytes === 0 ? 100 : Math.min(100, Math.floor((100 * bytes) / totals.bytes));
    facts.unshift(`${percent}%`.padStart(4));
    const left = totals.bytes - bytes;
    if (rate > 0 && left > 0) facts.push(`${formatAge((left / rate) * 1000)} left`.padStart(9));
    else facts.push(' '.repeat(9));
  }
  const text = facts.join('  ');
  const room = width - textWidth(text) - 2;
  if (room < 8) return fitText(text.trim(), Math.min(width, textWidth(text.trim())));
  // The end of a path is more useful than its beginning.
  const shown = escapeText(path, 4096);
  const name = textWidth(shown) <= room ? shown : `…${shown.slice(-(room - 1))}`;
  return `${fitText(name, room)}  ${text}`;
}

/** `12 files, 3.4 MB in 1.2 s (2.8 MB/s); 1.0 MB of that was there already`. */
export function formatOutcome(progress: CopyProgress, durationMs: number): string {
  const { files, folders, links, bytes, sentBytes, resumedBytes } = progress;
  const counts = [formatCount(files, 'file')];
  if (folders > 0) counts.push(formatCount(folders, 'folder'));
  if (links > 0) counts.push(formatCount(links, 'link'));
  const rate = formatRate((sentBytes * 1000) / Math.max(1, durationMs));
  const saved = resumedBytes === 0 ? '' : `; ${formatBytes(resumedBytes)} of that were there already`;
  return `${counts.join(', ')}, ${formatBytes(bytes)} in ${formatDuration(durationMs)} (${rate})${saved}`;
}
