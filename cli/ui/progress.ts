/** The progress of a copy, on stderr if that is a terminal: one line that is redrawn; and its outcome. */

import type { CopyProgress } from '../../lib/services/copy/copy-progress.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatCount } from '../../lib/util/units.js';
import { formatAge, formatBytes, formatDuration, formatRate } from './print.js';
import { fitText, textWidth } from './table.js';

/** The interval between drawings of the line, in milliseconds. */
const REDRAW_MS = 100;

/** The number of drawings over which its rate is measured. */
const RATE_DRAWINGS = 30;

/** Shows a copy on stderr, which must be a terminal, until it is stopped. */
export class CopyDisplay {
  readonly #progress: CopyProgress;
  readonly #samples: { readonly atMs: number; readonly bytes: number }[] = [];
  readonly #timer: NodeJS.Timeout;
  #isHeld = false;
  /** What the samples count: bytes sent, or compared at a side. */
  #sampled = '';

  constructor(progress: CopyProgress) {
    this.#progress = progress;
    this.#timer = setInterval(() => this.#draw(), REDRAW_MS);
    this.#timer.unref();
  }

  /** Makes room for another line. */
  clear(): void {
    process.stderr.write('\r\u001b[K');
  }

  /** Draws nothing until `work` is done, which uses the line itself. */
  async yieldTo<T>(work: Promise<T>): Promise<T> {
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
    const { comparison, sentBytes } = this.#progress;
    const sampled = comparison?.side ?? 'sent';
    if (sampled !== this.#sampled) this.#samples.length = 0;
    this.#sampled = sampled;
    const last = { atMs: performance.now(), bytes: comparison?.bytes ?? sentBytes };
    this.#samples.push(last);
    if (this.#samples.length > RATE_DRAWINGS) this.#samples.shift();
    const first = this.#samples[0] ?? last;
    const elapsedMs = last.atMs - first.atMs;
    const rate = elapsedMs === 0 ? 0 : ((last.bytes - first.bytes) * 1000) / elapsedMs;
    // The last column stays free: a terminal may wrap after it.
    const width = (process.stderr.columns || 80) - 1;
    process.stderr.write(`\r${formatProgress(this.#progress, rate, width)}\u001b[K`);
  }
}

/** Shown in place of a file while a resumed copy is compared: first the receiver reads its part, then the sender its files. */
const COMPARING = {
  here: 'comparing files here',
  there: 'comparing files there',
} as const;

/** `app/a.txt    45%   1.2 MB   3.4 MB/s   12s left`, in at most `width` columns; `rate` is in bytes a second. */
export function formatProgress(progress: CopyProgress, rate: number, width: number): string {
  const { comparison, path, bytes, totals } = progress;
  if (comparison !== null) return formatLine(COMPARING[comparison.side], comparison, rate, width);
  return formatLine(path, { bytes, totalBytes: totals?.bytes ?? null }, rate, width);
}

interface Amount {
  readonly bytes: number;
  /** Null if not known. */
  readonly totalBytes: number | null;
}

function formatLine(what: string, { bytes, totalBytes }: Amount, rate: number, width: number): string {
  const facts = [formatBytes(bytes).padStart(7), formatRate(rate).padStart(9)];
  if (totalBytes !== null) {
    const percent = totalBytes === 0 ? 100 : Math.min(100, Math.floor((100 * bytes) / totalBytes));
    facts.unshift(`${percent}%`.padStart(4));
    const left = totalBytes - bytes;
    facts.push((rate > 0 && left > 0 ? `${formatAge((left / rate) * 1000)} left` : '').padStart(9));
  }
  const text = facts.join('  ');
  const room = width - textWidth(text) - 2;
  if (room < 8) return fitText(text.trim(), Math.min(width, textWidth(text.trim())));
  // The end of a path is more useful than its beginning.
  const shown = escapeText(what, 4096);
  const name = textWidth(shown) <= room ? shown : `…${shown.slice(-(room - 1))}`;
  return `${fitText(name, room)}  ${text}`;
}

/** `12 files, 3.4 MB in 1.2 s (2.8 MB/s); 1.0 MB of that already existed`. */
export function formatOutcome(progress: CopyProgress, durationMs: number): string {
  const { files, folders, links, bytes, sentBytes, resumedBytes } = progress;
  const counts = [formatCount(files, 'file')];
  if (folders > 0) counts.push(formatCount(folders, 'folder'));
  if (links > 0) counts.push(formatCount(links, 'link'));
  const rate = formatRate((sentBytes * 1000) / Math.max(1, durationMs));
  const saved = resumedBytes === 0 ? '' : `; ${formatBytes(resumedBytes)} of that already existed`;
  return `${counts.join(', ')}, ${formatBytes(bytes)} in ${formatDuration(durationMs)} (${rate})${saved}`;
}
