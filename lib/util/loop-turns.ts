/** Work that others can make long, done a bit in each turn of the event loop, so that all others are served between. */

/** How long it takes in one turn, in milliseconds. */
const TURN_MS = 0.5;

/** The turns of all work that shares them, such as that of one service of a channel. */
export class LoopTurns {
  readonly #waiting: (() => void)[] = [];
  /** Null until this turn is used. */
  #endsAtMs: number | null = null;
  /** Whether one that awaited `next` has this turn: it works behind the callback of the loop. */
  #isGiven = false;

  /** Whether the time of this turn is used up, which begins with the first question: the rest has to wait. */
  get isOver(): boolean {
    const nowMs = performance.now();
    this.#endsAtMs ??= this.#begin(nowMs);
    return nowMs >= this.#endsAtMs;
  }

  /** Calls back in a later turn, behind all that waits already. */
  later(work: () => void): void {
    this.#waiting.push(work);
    this.#endsAtMs ??= this.#begin(performance.now());
  }

  /** Await it before each step of work that awaits in between. Null where this turn is not over; else resolved in a later one, of those that wait for one alone. */
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

  #begin(nowMs: number): number {
    this.#isGiven = false;
    setImmediate(this.#turn);
    return nowMs + TURN_MS;
  }

  readonly #turn = (): void => {
    this.#endsAtMs = null;
    while (this.#waiting.length > 0 && !this.isOver && !this.#isGiven) this.#waiting.shift()?.();
  };
}
