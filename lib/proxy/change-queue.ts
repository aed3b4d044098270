/** The changes of a proxy, one at a time, so that none sees another half done. */
import { VproxyError } from '../errors.js';

export class ChangeQueue {
  readonly #signal: AbortSignal;
  #last: Promise<unknown> = Promise.resolve();
  /** The number of changes in progress or waiting, also for streams to end. */
  #count = 0;
  /** How many of them wait for streams to end. */
  #drainCount = 0;

  /** After `signal`, changes that have not begun are rejected. */
  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  get isIdle(): boolean {
    return this.#count === 0;
  }

  /** Whether there are changes, and none waits for streams to end. */
  get isBrief(): boolean {
    return this.#count > 0 && this.#drainCount === 0;
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
    return this.#counted(done);
  }

  /** Counts a change that waits for streams to end, beside the others. */
  async drain(change: Promise<void>): Promise<void> {
    this.#drainCount += 1;
    await this.#counted(change).finally(() => {
      this.#drainCount -= 1;
    });
  }

  async #counted<T>(change: Promise<T>): Promise<T> {
    this.#count += 1;
    try {
      return await change;
    } finally {
      this.#count -= 1;
    }
  }
}
