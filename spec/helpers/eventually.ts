/** Waiting for a condition that nothing announces: it is looked at again and again until a deadline. */
import { setTimeout as delay } from 'node:timers/promises';

/** How long and how often to look. */
export interface EventuallyOptions {
  /** The deadline. Default 20,000: on a busy machine, to start a process alone can take ten seconds. */
  readonly timeoutMs?: number;
  /** The pause between two looks. Default 20. */
  readonly intervalMs?: number;
  /** What is waited for, as it shall stand in the error. Default "the condition". */
  readonly what?: string;
}

/**
 * The first value of `look` that is neither false, null nor undefined. A look that throws counts as "not yet"; past the
 * deadline this rejects with what was waited for, and with the last such error as its cause.
 */
export async function eventually<T>(
  look: () => T | Promise<T>,
  options: EventuallyOptions = {},
): Promise<Exclude<T, false | null | undefined>> {
  const { timeoutMs = 20_000, intervalMs = 20, what = 'the condition' } = options;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    let failure: unknown;
    try {
      const value = await look();
      if (value !== false && value !== null && value !== undefined) {
        return value as Exclude<T, false | null | undefined>;
      }
    } catch (error) {
      failure = error;
    }
    if (performance.now() >= deadline) {
      const last = failure instanceof Error ? ` (${failure.message})` : '';
      throw new Error(`${what} did not come within ${timeoutMs} ms${last}`, { cause: failure });
    }
    await delay(intervalMs);
  }
}

/** What `promise` gives, or a rejection that names `what` when it takes longer than `timeoutMs`. */
export async function within<T>(timeoutMs: number, what: string, promise: Promise<T>): Promise<T> {
  const stop = new AbortController();
  const late = delay(timeoutMs, undefined, { signal: stop.signal }).then(() => {
    throw new Error(`${what} took longer than ${timeoutMs} ms`);
  });
  late.catch(() => undefined);
  try {
    return await Promise.race([promise, late]);
  } finally {
    stop.abort();
  }
}
