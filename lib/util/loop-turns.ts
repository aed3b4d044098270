/** Work that others can make long, done a bit in each turn of the event loop, so that all others are served between. */

/** How long it takes in a row, in milliseconds: what comes in a turn has it, and what waits once more. */
const SLICE_MS = 0.5;

/** The turns of all work that shares them, such as that of one service of a channel. */
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
