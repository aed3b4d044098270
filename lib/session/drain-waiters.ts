/** Who waits for the channel to have written all that it was given. */

/** Callbacks that are made once, together. */
export class DrainWaiters {
  #callbacks: (() => void)[] = [];

  add(callback: () => void): void {
    this.#callbacks.push(callback);
  }

  /** Calls all that wait; one that is added meanwhile waits for the next time. */
  callAll(): void {
    if (this.#callbacks.length === 0) return;
    const callbacks = this.#callbacks;
    this.#callbacks = [];
    for (const callback of callbacks) callback();
  }
}
