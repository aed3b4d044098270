/** Work that others can make long, done a bit in each turn of the event loop, so that all others are served between. */

/** How long it takes in one turn, in milliseconds. */
const TURN_MS = 0.5;

/** The turns of all work that shares them, such as that of one service of a channel. */
export class LoopTurns {
  readonly #waiting: (() => void)[] = [];
  /** Null until this turn is used. */
  #endsAtMs: number | null = null;

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

  /** Resolved in a turn that is not over: at once where this one is not. */
  async next(): Promise<void> {
    while (this.isOver) await new Promise<void>((resolve) => this.later(resolve));
  }

  #begin(nowMs: number): number {
    setImmediate(this.#turn);
    return nowMs + TURN_MS;
  }

  readonly #turn = (): void => {
    this.#endsAtMs = null;
    while (this.#waiting.length > 0 && !this.isOver) this.#waiting.shift()?.();
  };
}
