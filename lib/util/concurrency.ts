/** Turns: so many may do something at once, and the others wait for theirs. */
import { toVproxyError, type VproxyError } from '../errors.js';

export class Turns {
  #freeCount: number;
  readonly #waiting = new Set<() => void>();

  /** `maxCount` may have a turn at once. */
  constructor(maxCount: number) {
    this.#freeCount = maxCount;
  }

  /** Runs `work` when its turn comes, in the order of the calls. When `signal` is aborted before, it is run at once. */
  async run<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    // Whoever gave it up finds that out by itself, and does nothing.
    if (signal.aborted || !(await this.#takes(signal))) return work();
    try {
      return await work();
    } finally {
      const [next] = this.#waiting;
      if (next === undefined) this.#freeCount += 1;
      else next();
    }
  }

  /** Whether the caller has a turn, when it has one or has given up. */
  async #takes(signal: AbortSignal): Promise<boolean> {
    if (this.#freeCount > 0) {
      this.#freeCount -= 1;
      return true;
    }
    const taken = deferred<boolean>();
    const settle = (isTaken: boolean) => {
      this.#waiting.delete(take);
      signal.removeEventListener('abort', giveUp);
      taken.resolve(isTaken);
    };
    const take = () => settle(true);
    const giveUp = () => settle(false);
    this.#waiting.add(take);
    signal.addEventListener('abort', giveUp);
    return taken.promise;
  }
}

// A promise together with the functions that settle it.

export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: Error): void;
}

/** A new unsettled promise. */
export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((accept, refuse) => {
    resolve = accept;
    reject = refuse;
  });
  return { promise, resolve, reject };
}

// Small works that run beside each other, so many at a time.

export class JobQueue {
  readonly #most: number;
  readonly #onFailed: (error: VproxyError) => void;
  #running = 0;
  #room: Deferred<void> | null = null;
  #idle: Deferred<void> | null = null;

  /** `onFailed` is told of every work that fails. */
  constructor(most: number, onFailed: (error: VproxyError) => void) {
    this.#most = most;
    this.#onFailed = onFailed;
  }

  /** Starts a work at once. Resolved when there is room for another one. */
  async add(work: () => Promise<void>): Promise<void> {
    this.#running += 1;
    void this.#run(work);
    while (this.#running >= this.#most) {
      this.#room ??= deferred();
      await this.#room.promise;
    }
  }

  /** Resolved when nothing runs; never rejected. */
  async idle(): Promise<void> {
    if (this.#running === 0) return;
    this.#idle ??= deferred();
    await this.#idle.promise;
  }

  async #run(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#onFailed(toVproxyError(error));
    }
    this.#running -= 1;
    this.#room?.resolve();
    this.#room = null;
    if (this.#running > 0) return;
    this.#idle?.resolve();
    this.#idle = null;
  }
}

// Work on several items at once whose results are wanted in order.

/**
 * What `work` gives for each item, in the order of the items, while it is done already for up to `count` that come behind.
 * Results that nobody takes any more, since something failed or the caller has stopped, go to `drop`.
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
      // A failure is met when its turn comes.
      result.catch(() => undefined);
      queue.push(result);
      if (queue.length >= count) yield await (queue.shift() as Promise<R>);
    }
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) yield await next;
  } finally {
    await Promise.allSettled(queue.map(async (result) => drop(await result)));
  }
}
