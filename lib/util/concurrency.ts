/**
 * What runs beside what: promises that are settled from outside, a limit on what runs at the same time, work done ahead,
 * and work done a bit in each turn of the event loop.
 */

/** A promise together with the functions that settle it. */
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

/** Something that changes: whoever waits for the next change looks by itself what it was. */
export class Change {
  #next: Deferred<void> | null = null;

  /** Resolved with the next one. */
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

/** A limit on what runs at the same time: work above it waits for its turn, in the order of the calls. */
export class Turns {
  readonly #maxCount: number;
  #takenCount = 0;
  readonly #waiting = new Set<() => void>();
  readonly #idle = new Change();

  constructor(maxCount: number) {
    this.#maxCount = maxCount;
  }

  /** Runs `work` in its turn. When a `signal` is aborted before, it is run at once: it finds that out itself, and does nothing. */
  async run<T>(signal: AbortSignal | null, work: () => Promise<T>): Promise<T> {
    if (signal?.aborted === true || !(await this.#take(signal))) return work();
    try {
      return await work();
    } finally {
      this.#give();
    }
  }

  /** Starts `work`, which never rejects, in its turn. Resolved when it has begun: a caller that awaits it is no more than one ahead. */
  async start(work: () => Promise<void>): Promise<void> {
    await this.#take(null);
    void work().finally(() => this.#give());
  }

  /** Resolved when nothing runs and nothing waits. */
  async idle(): Promise<void> {
    if (this.#takenCount > 0) await this.#idle.next();
  }

  /** Whether the caller has a turn, when it has one or has given up. */
  async #take(signal: AbortSignal | null): Promise<boolean> {
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

  /** A turn passes to the first that waits. */
  #give(): void {
    const [next] = this.#waiting;
    if (next === undefined) this.#takenCount -= 1;
    else next();
    if (this.#takenCount === 0) this.#idle.announce();
  }
}

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

/** How long work of {@link LoopTurns} takes in a row, in milliseconds: what comes in a turn has it, and what waits once more. */
const SLICE_MS = 0.5;

/**
 * Work that others can make long, done a bit in each turn of the event loop, so that all others are served between: of all
 * that shares these turns, such as one service of a channel.
 */
export class LoopTurns {
  readonly #waiting: (() => void)[] = [];
  /** Null until somebody asks. */
  #endsAtMs: number | null = null;
  #isScheduled = false;
  /** Whether one that awaited `next` has this turn: it works behind the callback of the loop. */
  #isGiven = false;

  /** Whether the time is used up, which begins with the first question of a turn: the rest has to wait. */
  get isOver(): boolean {
    const nowMs = performance.now();
    this.#endsAtMs ??= nowMs + SLICE_MS;
    this.#schedule();
    return nowMs >= this.#endsAtMs;
  }

  /** Calls back in a later turn, behind all that waits already. */
  later(work: () => void): void {
    this.#waiting.push(work);
    this.#schedule();
  }

  /** Await it before each step of work that awaits in between. Null where there is time; else resolved in a later turn, of those that wait for one alone. */
  next(): Promise<void> | null {
    if (!this.isOver) return null;
    return new Promise((resolve) => {
      this.later(() => {
        this.#isGiven = true;
        resolve();
      });
    });
  }

  /** Does work that is never cut, in the order of asking: at once, or in a later turn. Settled with what it gives. */
  run<T>(work: () => T | Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const begin = (): void => {
        try {
          resolve(work());
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      };
      if (this.#waiting.length === 0 && !this.isOver) begin();
      else this.later(begin);
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
    // What comes next is not held up by what waited.
    this.#endsAtMs = null;
  };
}
