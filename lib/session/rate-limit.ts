/** A bound on bytes a second, shared by all who take from it. */
import type { Clock } from '../util/clock.js';

/** What may pass at once after a pause: a tenth of a second's worth, and at least this much. */
const MIN_BURST_BYTES = 16_384;

/** Who waits is let through again when a piece of this size may pass, so that no dust is sent. */
const MIN_PIECE_BYTES = 4096;

export class RateLimit {
  readonly #bytesPerMs: number;
  readonly #burstBytes: number;
  readonly #clock: Clock;
  readonly #waiting = new Set<() => void>();
  #availableBytes: number;
  #atMs: number;
  #isScheduled = false;

  constructor(bytesPerSecond: number, clock: Clock) {
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#burstBytes = Math.max(MIN_BURST_BYTES, bytesPerSecond / 10);
    this.#clock = clock;
    this.#availableBytes = this.#burstBytes;
    this.#atMs = clock.now();
  }

  /** How many bytes may pass now. */
  get availableBytes(): number {
    const nowMs = this.#clock.now();
    this.#availableBytes = Math.min(this.#burstBytes, this.#availableBytes + (nowMs - this.#atMs) * this.#bytesPerMs);
    this.#atMs = nowMs;
    return Math.max(0, Math.floor(this.#availableBytes));
  }

  /** Counts bytes that passed; more than were available makes all wait the longer. */
  take(bytes: number): void {
    this.#availableBytes -= bytes;
  }

  /** Calls back once, when bytes may pass again. Whoever waits already is not added again. */
  whenAvailable(callback: () => void): void {
    this.#waiting.add(callback);
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const missingBytes = MIN_PIECE_BYTES - this.#availableBytes;
    this.#clock.schedule(Math.max(1, missingBytes / this.#bytesPerMs), () => {
      this.#isScheduled = false;
      const waiting = [...this.#waiting];
      this.#waiting.clear();
      for (const one of waiting) one();
    });
  }

  /** Takes back what `whenAvailable` was given. */
  forget(callback: () => void): void {
    this.#waiting.delete(callback);
  }
}
