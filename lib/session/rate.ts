/** A bound on bytes a second, shared by all who take from it. */
import type { Clock } from '../util/clock.js';

/** How fast bytes may go, and come; streams share limits. */
export interface StreamPace {
  readonly send: RateLimit;
  readonly receive: RateLimit;
}

/** What may pass at once after a pause: a tenth of a second's worth, and at least this many bytes. */
const MIN_BURST_BYTES = 16_384;

/** A turn is worth a hundredth of a second, within these bounds: no dust is sent, and no turn keeps the next one waiting. */
const TURNS_PER_SECOND = 100;
const MIN_TURN_BYTES = 512;
const MAX_TURN_BYTES = 131_072;

export class RateLimit {
  /** What one who waits may take in its turn, in bytes: it has none before there is as much. */
  readonly turnBytes: number;
  readonly #bytesPerMs: number;
  readonly #burstBytes: number;
  readonly #clock: Clock;
  /** Those who wait, in the order of their turns. */
  readonly #waiting = new Set<() => void>();
  #availableBytes: number;
  #atMs: number;
  #isTurn = false;
  #isScheduled = false;

  constructor(bytesPerSecond: number, clock: Clock) {
    const turnBytes = Math.ceil(bytesPerSecond / TURNS_PER_SECOND);
    this.turnBytes = Math.min(MAX_TURN_BYTES, Math.max(MIN_TURN_BYTES, turnBytes));
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#burstBytes = Math.max(MIN_BURST_BYTES, bytesPerSecond / 10);
    this.#clock = clock;
    this.#availableBytes = this.#burstBytes;
    this.#atMs = clock.now();
  }

  /** How many bytes may pass now: 0 while others wait, except in one's turn. */
  get availableBytes(): number {
    return this.#waiting.size > 0 && !this.#isTurn ? 0 : Math.floor(this.#refill());
  }

  /** Counts bytes that passed, which were available. */
  take(bytes: number): void {
    this.#availableBytes -= bytes;
  }

  /** Calls back once, in turn, when bytes may pass. Who waits already keeps its place. */
  whenAvailable(callback: () => void): void {
    this.#waiting.add(callback);
    this.#schedule();
  }

  /** Takes back what `whenAvailable` was given. */
  forget(callback: () => void): void {
    this.#waiting.delete(callback);
  }

  #refill(): number {
    const nowMs = this.#clock.now();
    this.#availableBytes = Math.min(this.#burstBytes, this.#availableBytes + (nowMs - this.#atMs) * this.#bytesPerMs);
    this.#atMs = nowMs;
    return this.#availableBytes;
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isTurn || this.#waiting.size === 0) return;
    this.#isScheduled = true;
    const missingBytes = this.turnBytes - this.#refill();
    this.#clock.schedule(Math.max(1, Math.ceil(missingBytes / this.#bytesPerMs)), () => {
      this.#isScheduled = false;
      this.#giveTurns();
      this.#schedule();
    });
  }

  /** Whoever takes a turn and has more to do waits again, behind the others. */
  #giveTurns(): void {
    this.#isTurn = true;
    for (const next of this.#waiting) {
      if (this.#refill() < this.turnBytes) break;
      this.#waiting.delete(next);
      next();
    }
    this.#isTurn = false;
  }
}
