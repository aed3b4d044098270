/** Shows what long work waits for, on stderr if that is a terminal: one line that is redrawn, and cleared at the end. */
import { setTimeout as delay } from 'node:timers/promises';
import { obeysEscapes } from './color.js';

/** The delay before the first line, and between two, in milliseconds: shorter waits show nothing. */
const INTERVAL_MS = 500;

/**
 * Waits for `work`, and shows the results of `look` in one line of the terminal, which is cleared at the end; null shows
 * nothing. A failure of `look` is not reported: `work` will report it.
 */
export async function showProgress<T>(look: () => Promise<string | null>, work: Promise<T>): Promise<T> {
  if (!obeysEscapes(process.stderr)) return work;
  const ended = new AbortController();
  const shown = repeat(look, ended.signal);
  try {
    return await work;
  } finally {
    ended.abort();
    await shown;
  }
}

async function repeat(look: () => Promise<string | null>, signal: AbortSignal): Promise<void> {
  let shown = '';
  try {
    for (;;) {
      await delay(INTERVAL_MS, undefined, { signal });
      const line = await look();
      if (line === null || line === shown || signal.aborted) continue;
      // A longer line would take two rows, and only one is cleared.
      const width = (process.stderr.columns || 80) - 1;
      process.stderr.write(`\r\u001b[K${`vproxy: ${line}`.slice(0, width)}`);
      shown = line;
    }
  } catch {
    if (shown !== '') process.stderr.write('\r\u001b[K');
  }
}
