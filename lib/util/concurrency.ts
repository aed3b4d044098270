/** Concurrency: promises settled from outside, limits on concurrent work, look-ahead, and work in slices per event loop turn. */

import { setMaxListeners } from 'node:events';

/** A promise together with the functions that settle it. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: Error): void;
}

export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((accept, refuse) => {
    resolve = accept;
    reject = refuse;
  });
  return { promise, resolve, reject };
}

/** Announces changes; a waiter looks up by itself what changed. */
export class Change {
  #next: Deferred<void> | null = null;

  /** Resolves with the next change. */
  next(): Promise<void> {
    this.#next ??= deferred();
    return this.#next.promise;
  }

  announce(): void {
    const next = this.#next;
    this.#next = null;
    next?.resolve();
  }
}

/** A limit on concurrent work: work above it waits, in the order of the calls. */
export class Turns {
  readonly #maxCount: number;
  #takenCount = 0;
  readonly #waiting = new Set<() => void>();
  readonly #idle = new Change();

  constructor(maxCount: number) {
    this.#maxCount = maxCount;
  }

  /** Runs `work` in its turn, or at once when `signal` is aborted before: it must notice that itself, and do nothing. */
  async run<T>(signal: AbortSignal | null, work: () => Promise<T>): Promise<T> {
    if (signal?.aborted === true || !(await this.#waitForTurn(signal))) return work();
    try {
      return await work();
    } finally {
      this.#give();
    }
  }

  /** Starts `work`, which must not reject, in its turn. Resolves when it has started: an awaiting caller is at most one ahead. */
  async start(work: () => Promise<void>): Promise<void> {
    await this.#waitForTurn(null);
    void work().finally(() => this.#give());
  }

  /** Resolves when nothing runs or waits. */
  async idle(): Promise<void> {
    if (this.#takenCount > 0) await this.#idle.next();
  }

  /** Waits for a turn; false if the signal was aborted first. */
  async #waitForTurn(signal: AbortSignal | null): Promise<boolean> {
    if (this.#takenCount < this.#maxCount) {
      this.#takenCount += 1;
      return true;
    }
    const taken = deferred<boolean>();
    const settle = (isTaken: boolean) => {
      this.#waiting.delete(take);
      signal?.removeEventListener('abort', giveUp);
      taken.resolve(isTaken);
    };
    const take = () => settle(true);
    const giveUp = () => settle(false);
    this.#waiting.add(take);
    signal?.addEventListener('abort', giveUp);
    return taken.promise;
  }

  /** Passes a turn to the first waiter. */
  #give(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#takenCount -= 1;
    else next();
    if (this.#takenCount === 0) this.#idle.announce();
  }
}

/**
 * Yields the results of `work` for each item, in order, while up to `count` later ones are already in progress. Results that are
 * never yielded, after a failure or because the caller has stopped, go to `drop`.
 */
export async function* lookAhead<T, R>(
  items: AsyncIterable<T>,
  work: (item: T) => Promise<R>,
  count: number,
  drop: (result: R) => Promise<void> = () => Promise.resolve(),
): AsyncGenerator<R> {
  const queue: Promise<R>[] = [];
  try {
    for await (const item of items) {
      const result = work(item);
      // A failure surfaces when its turn comes.
      result.catch(() => undefined);
      queue.push(result);
      if (queue.length >= count) yield await (queue.shift() as Promise<R>);
    }
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) yield await next;
  } finally {
    await Promise.allSettled(queue.map(async (result) => drop(await result)));
  }
}

/** How long work of {@link LoopTurns} runs in one go, in milliseconds: once for new work of a turn, and once for waiting work. */
const SLICE_MS = 0.5;

/**
 * Work that others can make long, done in slices per turn of the event loop, so that everything else is served in between. All
 * users of one object, such as a service of a channel, share the slices.
 */
export class LoopTurns {
  readonly #waiting: (() => void)[] = [];
  /** Null until first asked in a turn. */
  #endsAtMs: number | null = null;
  #isScheduled = false;
  /** Whether a caller that awaited `nextTurn` has this turn: it works after the loop's callback. */
  #isGiven = false;

  /** Whether the time of this turn, which starts with the first question, is used up: the rest must wait. */
  get isOver(): boolean {
    const nowMs = performance.now();
    this.#endsAtMs ??= nowMs + SLICE_MS;
    this.#schedule();
    return nowMs >= this.#endsAtMs;
  }

  /** Calls back in a later turn, after everything that already waits. */
  later(work: () => void): void {
    this.#waiting.push(work);
    this.#schedule();
  }

  /**
   * To be asked before each step of asynchronous work. Null if there is time; else resolves in a later turn, one waiter a turn.
   * Do not await null: all that ask in one turn would have their answer before the first one works.
   */
  nextTurn(): Promise<void> | null {
    if (!this.isOver) return null;
    return new Promise((resolve) => {
      this.later(() => {
        this.#isGiven = true;
        resolve();
      });
    });
  }

  /** Runs indivisible work, in the order of the calls: at once, or in a later turn. Settles with its result. */
  run<T>(work: () => T | Promise<T>): Promise<T> {
    if (this.#waiting.length > 0 || this.isOver) return this.queue(work);
    return new Promise((resolve) => resolve(work()));
  }

  /** The same, but always in a later turn: for work of which a turn should do no more than one. */
  queue<T>(work: () => T | Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.later(() => {
        try {
          resolve(work());
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
    });
  }

  #schedule(): void {
    if (!this.#isScheduled) setImmediate(this.#turn);
    this.#isScheduled = true;
  }

  readonly #turn = (): void => {
    this.#isScheduled = false;
    this.#endsAtMs = null;
    while (this.#waiting.length > 0 && !this.#isGiven && !this.isOver) this.#waiting.shift()?.();
    this.#isGiven = false;
    // Waiting work must not hold up what comes next.
    this.#endsAtMs = null;
  };
}

/** Does `action` once `signal` is aborted; the returned function forgets it. */
export function onAbort(signal: AbortSignal | undefined, action: () => void): () => void {
  if (signal?.aborted === true) action();
  // Many calls may share one: without this, Node warns of a leak.
  if (signal !== undefined) setMaxListeners(0, signal);
  signal?.addEventListener('abort', action);
  return () => signal?.removeEventListener('abort', action);
}
