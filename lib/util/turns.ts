/** Turns: so many may do something at once, and the others wait for theirs. */
import { deferred } from './deferred.js';

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
