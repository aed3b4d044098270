/** Work in slices of time, between which the event loop serves all others. */

/** How long work takes in a row, in milliseconds: a loop that polls has two slices in a turn. */
const SLICE_MS = 1;

/** Runs pieces of work in order: at once while the slice lasts, and else in a later turn of the loop. A piece is never cut. */
export class TimeSlices {
  readonly #waiting: (() => void)[] = [];
  #leftMs = SLICE_MS;
  #isRefilling = false;

  /** Settled with what `work` gives. */
  run<T>(work: () => T | Promise<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      this.#waiting.push(() => {
        try {
          resolve(work());
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)));
        }
      });
      this.#runOn();
    });
  }

  #runOn(): void {
    this.#refillLater();
    while (this.#leftMs > 0) {
      const startMs = performance.now();
      const work = this.#waiting.shift();
      if (work === undefined) return;
      work();
      this.#leftMs -= performance.now() - startMs;
    }
  }

  #refillLater(): void {
    if (this.#isRefilling) return;
    this.#isRefilling = true;
    setImmediate(() => {
      this.#isRefilling = false;
      this.#leftMs = SLICE_MS;
      if (this.#waiting.length > 0) this.#runOn();
    });
  }
}

/** Slices for work that awaits in between: whoever asks before each of its steps waits for a later turn of the loop once the slice is used up. */
export class SlicedSteps {
  readonly #waiting: (() => void)[] = [];
  /** When the slice is used up, by `performance.now`; null: none has begun. */
  #endMs: number | null = null;

  /** Null where the next step may be taken at once; else resolved when it may, in the order of asking. */
  next(): Promise<void> | null {
    this.#endMs ??= this.#begin();
    if (performance.now() < this.#endMs) return null;
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  #begin(): number {
    // One that waits for each turn of the loop: what it does comes before the next callback.
    setImmediate(() => {
      const waiting = this.#waiting.shift();
      this.#endMs = waiting === undefined ? null : this.#begin();
      waiting?.();
    });
    return performance.now() + SLICE_MS;
  }
}
