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
