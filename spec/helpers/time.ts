/** Time in specs: polling with a deadline, and a clock for a part of vproxy that moves when a spec says so. */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { CancelTimer, Clock } from '../../lib/util/clock.js';

/** The interval at which a {@link Deadline} counts, and the load of the machine is read. */
const STEP_MS = 100;

/** The load, as last read. */
const load = { readAtMs: Number.NEGATIVE_INFINITY, share: 1 };

/** The share of a processor for each thread of this machine that can run now: 1 unless they outnumber the processors. */
function processorShare(): number {
  const nowMs = performance.now();
  if (nowMs - load.readAtMs < STEP_MS) return load.share;
  const [, runnable] = / (\d+)\//.exec(readFileSync('/proc/loadavg', 'latin1')) ?? [];
  load.readAtMs = nowMs;
  load.share = Math.min(1, availableParallelism() / Number(runnable ?? 1));
  return load.share;
}

/**
 * A deadline in the processor's time that this machine has for a process. On a quiet machine it is real time. It passes more
 * slowly while others compete for the processors, and hardly at all while this process does not get its turn: so it means the
 * same on any machine, and input that arrived before it counts.
 */
export class Deadline {
  #leftMs: number;
  #countedAtMs = performance.now();
  readonly #timer: NodeJS.Timeout;

  constructor(ms: number, onOver: () => void = () => undefined) {
    this.#leftMs = ms;
    const stepMs = Math.min(STEP_MS, ms);
    this.#timer = setInterval(() => {
      const nowMs = performance.now();
      this.#leftMs -= Math.min(nowMs - this.#countedAtMs, 2 * stepMs) * processorShare();
      this.#countedAtMs = nowMs;
      if (!this.isOver) return;
      this.cancel();
      onOver();
    }, stepMs);
  }

  get isOver(): boolean {
    return this.#leftMs <= 0;
  }

  cancel(): void {
    clearInterval(this.#timer);
  }

  /** Does not keep the process running. */
  unref(): this {
    this.#timer.unref();
    return this;
  }
}

interface EventuallyOptions {
  /** The time of a {@link Deadline}. Default 20,000. */
  readonly timeoutMs?: number;
  readonly intervalMs?: number;
  /** The subject of the wait, for the error. Default "the condition". */
  readonly what?: string;
}

/**
 * The first value of `look` that is not false, null or undefined. A `look` that throws counts as "not yet"; past the deadline
 * this rejects with the subject of the wait, and the last such error as its cause.
 */
export async function eventually<T>(
  look: () => T | Promise<T>,
  options: EventuallyOptions = {},
): Promise<Exclude<T, false | null | undefined>> {
  const { timeoutMs = 20_000, intervalMs = 20, what = 'the condition' } = options;
  const deadline = new Deadline(timeoutMs);
  try {
    for (;;) {
      let failure: unknown;
      const isLast = deadline.isOver;
      try {
        const value = await look();
        if (value !== false && value !== null && value !== undefined) {
          return value as Exclude<T, false | null | undefined>;
        }
      } catch (error) {
        failure = error;
      }
      if (isLast) {
        const last = failure instanceof Error ? ` (${failure.message})` : '';
        throw new Error(`${what} did not come within ${timeoutMs} ms${last}`, { cause: failure });
      }
      await delay(intervalMs);
    }
  } finally {
    deadline.cancel();
  }
}

/** Waits until `look` has the same value twice in a row, which is not false, 0, empty or missing: nothing moves any more. */
export async function untilStill(look: () => unknown, options?: EventuallyOptions): Promise<void> {
  let before: unknown;
  await eventually(async () => {
    const last = before;
    before = await look();
    return Boolean(before) && before === last;
  }, options);
}

/** The result of `promise`, or a rejection that names `what` if it takes longer than a {@link Deadline} of `timeoutMs`. */
export async function within<T>(timeoutMs: number, what: string, promise: Promise<T>): Promise<T> {
  let deadline: Deadline | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    deadline = new Deadline(timeoutMs, () => reject(new Error(`${what} took longer than ${timeoutMs} ms`)));
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    deadline?.cancel();
  }
}

// A clock that moves when a spec says so.

interface Timer {
  readonly atMs: number;
  readonly callback: () => void;
}

export class ManualClock implements Clock {
  /** How far it moves each time that it is read, as if work were done. */
  costMs = 0;
  #nowMs = 0;
  readonly #timers = new Set<Timer>();

  now(): number {
    this.#nowMs += this.costMs;
    return this.#nowMs;
  }

  schedule(delayMs: number, callback: () => void): CancelTimer {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  get pending(): number {
    return this.#timers.size;
  }

  /** Moves on, calling back on the way in the order of time. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (let next = this.#next(untilMs); next !== null; next = this.#next(untilMs)) {
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.callback();
    }
    this.#nowMs = untilMs;
  }

  /** Jumps like the clock of a stopped process: time has passed, and every timer that is due fires late. */
  jump(ms: number): void {
    this.#nowMs += ms;
    this.advance(0);
  }

  #next(untilMs: number): Timer | null {
    let first: Timer | null = null;
    for (const timer of this.#timers) {
      if (timer.atMs <= untilMs && (first === null || timer.atMs < first.atMs)) first = timer;
    }
    return first;
  }
}

/** Moves the clock on, a little at a time, until a promise is settled. */
export async function advanceUntil<T>(clock: ManualClock, promise: Promise<T>): Promise<T> {
  const state = { isSettled: false };
  const settle = (): void => void (state.isSettled = true);
  promise.then(settle, settle);
  await eventually(() => (clock.advance(50), state.isSettled), { intervalMs: 1 });
  return promise;
}

/** A clock as one process has it: its timers end with the process. */
export class ProcessClock implements Clock {
  readonly #clock: Clock;
  readonly #timers = new Set<CancelTimer>();
  #isDead = false;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  now(): number {
    return this.#clock.now();
  }

  schedule(delayMs: number, callback: () => void): CancelTimer {
    if (this.#isDead) return () => undefined;
    const cancel = this.#clock.schedule(delayMs, () => {
      this.#timers.delete(cancel);
      callback();
    });
    this.#timers.add(cancel);
    return () => {
      this.#timers.delete(cancel);
      cancel();
    };
  }

  get pending(): number {
    return this.#timers.size;
  }

  die(): void {
    this.#isDead = true;
    for (const cancel of this.#timers) cancel();
    this.#timers.clear();
  }
}
