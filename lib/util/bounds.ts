/** Shared limits: on what is held at once ({@link Budget}), and on rates ({@link TokenBucket}). */

/** Counts reserved bytes against a limit, and against that of a parent budget. */
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

  /** Reserves bytes; false, reserving nothing, if they do not fit. A negative number releases. */
  reserve(bytes: number): boolean {
    if (this.#usedBytes + bytes > this.limitBytes) return false;
    if (this.#parent !== null && !this.#parent.reserve(bytes)) return false;
    this.#usedBytes += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#usedBytes -= bytes;
    this.#parent?.release(bytes);
  }
}

/** A byte limit shared by many: each may hold as much as is left, so N holders get a share each, and the next one as much. */
export class FairBudget {
  #limitBytes: number;
  #usedBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Raises the limit to at least this much. */
  widen(limitBytes: number): void {
    this.#limitBytes = Math.max(this.#limitBytes, limitBytes);
  }

  reserve(bytes: number): void {
    this.#usedBytes += bytes;
  }

  release(bytes: number): void {
    this.#usedBytes -= bytes;
  }

  /** How much a holder of `heldBytes` may hold in total. */
  shareOf(heldBytes: number): number {
    return (this.#limitBytes - this.#usedBytes + heldBytes) / 2;
  }
}

/** The fill level of a {@link TokenBucket}, and its time. */
export interface TokenBucketState {
  tokens: number;
  filledAtMs: number;
}

/** Lets `burst` through at once and `perSecond` in the long run, of events or of bytes. */
export class TokenBucket {
  readonly state: TokenBucketState;
  readonly #perSecond: number;
  readonly #burst: number;

  /** Full at `nowMs`, unless it continues from the state of another one. */
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

  /** Counts one, or `count`. False, counting nothing, if that is too many. */
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
