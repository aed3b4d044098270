/** A bound on how much of something there may be. */

/** Lets `burst` through at once and `perSecond` in the long run, of events or of bytes. */
export class TokenBucket {
  readonly #perSecond: number;
  readonly #burst: number;
  #tokens: number;
  #filledAtMs: number;

  constructor(perSecond: number, burst: number, nowMs: number) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#tokens = burst;
    this.#filledAtMs = nowMs;
  }

  /** How much of the burst is used up. */
  spent(nowMs: number): number {
    this.#fill(nowMs);
    return this.#burst - this.#tokens;
  }

  /** Whether there is room for so many. */
  has(nowMs: number, count: number): boolean {
    this.#fill(nowMs);
    return this.#tokens >= count;
  }

  /** Counts so many, one by default. False where that is too many: nothing is counted then. */
  take(nowMs: number, count = 1): boolean {
    if (!this.has(nowMs, count)) return false;
    this.#tokens -= count;
    return true;
  }

  #fill(nowMs: number): void {
    const elapsedMs = nowMs - this.#filledAtMs;
    this.#tokens = Math.min(this.#burst, this.#tokens + (elapsedMs * this.#perSecond) / 1000);
    this.#filledAtMs = nowMs;
  }
}
