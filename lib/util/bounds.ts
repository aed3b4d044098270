/** Bounds that many share: on what is held at once ({@link Budget}), and on what happens in a time ({@link TokenBucket}). */

/** Counts the bytes that were reserved against a limit, and against the budget that this one is a part of. */
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

  /** Takes bytes; false, and nothing is taken, where they do not fit. Fewer than none are given back. */
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

/** A bound in bytes for many: each may hold as much as is left, so that N of them have a share each, and the next one has as large a share left. */
export class FairBudget {
  #limitBytes: number;
  #usedBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Has room for at least this much from now on. */
  widen(limitBytes: number): void {
    this.#limitBytes = Math.max(this.#limitBytes, limitBytes);
  }

  take(bytes: number): void {
    this.#usedBytes += bytes;
  }

  release(bytes: number): void {
    this.#usedBytes -= bytes;
  }

  /** How much one that holds `heldBytes` of it may hold in all. */
  shareOf(heldBytes: number): number {
    return (this.#limitBytes - this.#usedBytes + heldBytes) / 2;
  }
}

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

  /** How much of the burst is used up: what another bucket has to `take` to be as full. */
  spent(nowMs: number): number {
    return this.#burst - this.#tokensAt(nowMs);
  }

  /** Whether there is room for `count`. */
  has(nowMs: number, count: number): boolean {
    this.#fill(nowMs);
    return this.#tokens >= count;
  }

  /** Counts one, or `count`. False where that is too many: nothing is counted then. */
  take(nowMs: number, count = 1): boolean {
    if (!this.has(nowMs, count)) return false;
    this.#tokens -= count;
    return true;
  }

  #fill(nowMs: number): void {
    this.#tokens = this.#tokensAt(nowMs);
    this.#filledAtMs = nowMs;
  }

  #tokensAt(nowMs: number): number {
    const elapsedMs = nowMs - this.#filledAtMs;
    return Math.min(this.#burst, this.#tokens + (elapsedMs * this.#perSecond) / 1000);
  }
}
