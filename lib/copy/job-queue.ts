/** Small works that run beside each other, so many at a time. */
import { toVproxyError, type VproxyError } from '../errors.js';
import { type Deferred, deferred } from '../util/deferred.js';

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
