/** A simulated line with a rate and a latency. */

export interface LineTraits {
  readonly delayMs: number;
  /** Infinity: no limit. */
  readonly bytesPerMs: number;
}

/** Computes when pieces have passed a line that carries one byte after the other. */
export class LineSchedule {
  readonly #traits: LineTraits;
  #freeAtMs = 0;

  constructor(traits: LineTraits) {
    this.#traits = traits;
  }

  /** Returns when a piece that enters at `nowMs` has completely come out, in milliseconds. */
  arrivalOf(bytes: number, nowMs: number): number {
    this.#freeAtMs = Math.max(this.#freeAtMs, nowMs) + bytes / this.#traits.bytesPerMs;
    return this.#freeAtMs + this.#traits.delayMs;
  }

  /** How long pieces wait before they enter the line, in milliseconds. */
  queueMs(nowMs: number): number {
    return Math.max(this.#freeAtMs - nowMs, 0);
  }
}
