/** How far long work is, on stderr where that is a terminal. */
import { setTimeout as delay } from 'node:timers/promises';

/** Between two looks, in milliseconds. */
const INTERVAL_MS = 500;

/**
 * Waits for `work`, and shows what `look` says meanwhile in one line of the terminal, which is gone at the end; null says
 * nothing. What `look` fails with is not told: `work` will.
 */
export async function showProgress<T>(look: () => Promise<string | null>, work: Promise<T>): Promise<T> {
  if (!process.stderr.isTTY) return work;
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
  let isShown = false;
  try {
    for (;;) {
      await delay(INTERVAL_MS, undefined, { signal });
      const line = await look();
      if (line === null || signal.aborted) continue;
      process.stderr.write(`\r\u001b[Kvproxy: ${line}`);
      isShown = true;
    }
  } catch {
    if (isShown) process.stderr.write('\r\u001b[K');
  }
}
