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

/** How full a {@link TokenBucket} was, and when. */
export interface TokenBucketState {
  tokens: number;
  filledAtMs: number;
}

/** Lets `burst` through at once and `perSecond` in the long run, of events or of bytes. */
export class TokenBucket {
  readonly state: TokenBucketState;
  readonly #perSecond: number;
  readonly #burst: number;

  /** Full at `nowMs`, unless another one has left its state. */
  constructor(perSecond: number, burst: number, nowMs: number, state = { tokens: burst, filledAtMs: nowMs }) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.state = state;
  }

  /** How much of the burst is used up. */
  spent(nowMs: number): number {
    this.#fill(nowMs);
    return this.#burst - this.state.tokens;
  }

  /** Whether there is room for `count`. */
  has(nowMs: number, count: number): boolean {
    this.#fill(nowMs);
    return this.state.tokens >= count;
  }

  /** Counts one, or `count`. False where that is too many: nothing is counted then. */
  take(nowMs: number, count = 1): boolean {
    if (!this.has(nowMs, count)) return false;
    this.state.tokens -= count;
    return true;
  }

  #fill(nowMs: number): void {
    const { state } = this;
    const elapsedMs = nowMs - state.filledAtMs;
    state.tokens = Math.min(this.#burst, state.tokens + (elapsedMs * this.#perSecond) / 1000);
    state.filledAtMs = nowMs;
  }
}
