/** The changes of a proxy, one at a time, so that none sees another half done. */
import { VproxyError } from '../errors.js';

export class ChangeQueue {
  readonly #signal: AbortSignal;
  #last: Promise<unknown> = Promise.resolve();
  /** The number of changes in progress or waiting, also for streams to end. */
  #count = 0;

  /** After `signal`, changes that have not begun are rejected. */
  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  get isIdle(): boolean {
    return this.#count === 0;
  }

  /** Settles with the last change so far; never rejects. */
  get settled(): Promise<unknown> {
    return this.#last;
  }

  /** Runs a change after those before it. Rejects as it does, or with `shutdown`. */
  run<T>(work: () => Promise<T>): Promise<T> {
    const done = this.#last.then(() => {
      if (this.#signal.aborted) throw new VproxyError('shutdown', 'shutting down');
      return work();
    });
    this.#last = done.catch(() => undefined);
    return this.count(done);
  }

  /** Counts a change until it settles. */
  async count<T>(change: Promise<T>): Promise<T> {
    this.#count += 1;
    try {
      return await change;
    } finally {
      this.#count -= 1;
    }
  }
}
