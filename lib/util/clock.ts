/** Time as a parameter, the system's or a test's: timers, pauses, and growing delays. */
import { uptime } from 'node:os';

/** Time, the system's or a test's. */
export interface Clock {
  /** Milliseconds since an arbitrary moment, the same in all processes of a machine; never goes back. */
  now(): number;
  /** The machine's uptime, which includes time suspended. Default: `now`. */
  upMs?(): number;
  /**
   * Calls back once after `delayMs`; the returned function cancels it. With `slackMs` it may be half of that earlier or later, so
   * that those of many callers take one turn of the event loop.
   */
  schedule(delayMs: number, callback: () => void, slackMs?: number): CancelTimer;
}

/** Cancels a scheduled call; harmless if it was already made. */
export type CancelTimer = () => void;

/** The longest delay, 24 days: a longer timer of Node fires at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1;

/** A timer that fires at least this late, in milliseconds, was held up, and so was pending input. */
const LATE_MS = 20;

/** The start of this process's clock on CLOCK_MONOTONIC, in milliseconds. */
const ORIGIN_MS = ((): number => {
  const [seconds, nanoseconds] = process.hrtime();
  return seconds * 1000 + nanoseconds / 1e6 - performance.now();
})();

/**
 * The system's monotonic clock, the same in all processes: a successor continues with the times of its predecessor. After a
 * stall, timers expire before the input that arrived meanwhile is read; here that input is read first, so that no peer is timed
 * out whose answer has arrived.
 */
export const systemClock: Clock = {
  now: () => ORIGIN_MS + performance.now(),
  upMs: () => uptime() * 1000,
  schedule(delayMs, callback, slackMs = 0) {
    const exactMs = performance.now() + delayMs;
    const shiftMs = slackMs > 0 ? Math.round(exactMs / slackMs) * slackMs - exactMs : 0;
    const dueMs = exactMs + shiftMs;
    let behindInput: NodeJS.Immediate | undefined;
    // Of a time that has passed, Node 24 warns on stderr.
    const timer = setTimeout(
      () => {
        if (performance.now() - dueMs < LATE_MS) callback();
        else behindInput = setImmediate(callback);
      },
      Math.max(0, delayMs + shiftMs),
    );
    return () => {
      clearTimeout(timer);
      clearImmediate(behindInput);
    };
  },
};

/** Resolves after `delayMs`, or when `signal` is aborted; the caller checks which. Never rejects. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  if (signal?.aborted === true) return Promise.resolve();
  return new Promise((resolve) => {
    const end = (): void => {
      cancel();
      signal?.removeEventListener('abort', end);
      resolve();
    };
    const cancel = clock.schedule(delayMs, end);
    signal?.addEventListener('abort', end);
  });
}

/** Resolves when `work` is settled, or after `delayMs`. Never rejects. */
export async function settledWithin(clock: Clock, delayMs: number, work: Promise<unknown>): Promise<void> {
  const settled = new AbortController();
  const settle = (): void => settled.abort();
  work.then(settle, settle);
  await sleep(clock, delayMs, settled.signal);
}

export interface BackoffOptions {
  readonly firstMs: number;
  readonly maxMs: number;
  /** The factor from one delay to the next. Default 2. */
  readonly factor?: number;
  /** The share by which a delay may differ from its nominal value, either way. Default 0.25. */
  readonly jitter?: number;
  /** A number from 0 to 1. Default `Math.random`. */
  readonly random?: () => number;
}

/** The next delay of a {@link Backoff}, without its random part. */
export interface BackoffState {
  nominalMs: number;
}

/** The delays between attempts, each longer than the one before, until `reset`. */
export class Backoff {
  readonly #options: Required<BackoffOptions>;
  readonly #state: BackoffState;

  constructor(options: BackoffOptions, state: BackoffState = { nominalMs: options.firstMs }) {
    this.#options = { factor: 2, jitter: 0.25, random: Math.random, ...options };
    this.#state = state;
  }

  /** The delay before the next attempt, in milliseconds. */
  next(maxMs: number = this.#options.maxMs): number {
    const { factor, jitter, random } = this.#options;
    const nominal = Math.min(this.#state.nominalMs, maxMs);
    this.#state.nominalMs = Math.min(nominal * factor, maxMs);
    return nominal * (1 + jitter * (2 * random() - 1));
  }

  /** Starts again with the first delay. */
  reset(): void {
    this.#state.nominalMs = this.#options.firstMs;
  }
}
