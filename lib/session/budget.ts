/** A bound on memory that many share (R-FLOW-4). */

/** Counts what was reserved against a limit, and against the budget that this one is a part of. */
export class Budget {
  readonly limitBytes: number;
  readonly #parent: Budget | null;
  #usedBytes = 0;

  constructor(limitBytes: number, parent: Budget | null = null) {
    this.limitBytes = limitBytes;
    this.#parent = parent;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Takes so many bytes; false, and nothing is taken, where they do not fit. */
  reserve(bytes: number): boolean {
    if (this.#usedBytes + bytes > this.limitBytes) return false;
    if (this.#parent !== null && !this.#parent.reserve(bytes)) return false;
    this.#usedBytes += bytes;
    return true;
  }

  /** Gives reserved bytes back. */
  release(bytes: number): void {
    this.#usedBytes -= bytes;
    this.#parent?.release(bytes);
  }
}
