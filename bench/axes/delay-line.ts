/** Bytes that come out later: a line with a rate and a latency. */

export interface LineTraits {
  readonly delayMs: number;
  /** Infinity: no limit. */
  readonly bytesPerMs: number;
}

/** When a piece has passed a line that carries one byte after the other. */
export class LineSchedule {
  readonly #traits: LineTraits;
  #freeAtMs = 0;

  constructor(traits: LineTraits) {
    this.#traits = traits;
  }

  /** The moment at which a piece that is handed in at `nowMs` has come out whole, in milliseconds. */
  arrivalOf(bytes: number, nowMs: number): number {
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + bytes / this.#traits.bytesPerMs;
    return this.#freeAtMs + this.#traits.delayMs;
  }

  /** For how long pieces have to wait before the line takes them, in milliseconds. */
  queueMs(nowMs: number): number {
    return Math.max(this.#freeAtMs - nowMs, 0);
  }
}
