/** A clock that moves when a spec says so. */
import type { CancelTimer, Clock } from '../../lib/util/clock.js';

interface Timer {
  readonly atMs: number;
  readonly callback: () => void;
}

export class ManualClock implements Clock {
  /** How much goes by from one look at it to the next, as if work were done. */
  costMs = 0;
  #nowMs = 0;
  readonly #timers = new Set<Timer>();

  now(): number {
    this.#nowMs += this.costMs;
    return this.#nowMs;
  }

  schedule(delayMs: number, callback: () => void): CancelTimer {
    const timer = { atMs: this.#nowMs + delayMs, callback };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  }

  /** How many timers wait. */
  get pending(): number {
    return this.#timers.size;
  }

  /** Moves on, calling back on the way in the order of time. */
  advance(ms: number): void {
    const untilMs = this.#nowMs + ms;
    for (let next = this.#next(untilMs); next !== null; next = this.#next(untilMs)) {
      this.#timers.delete(next);
      this.#nowMs = Math.max(this.#nowMs, next.atMs);
      next.callback();
    }
    this.#nowMs = untilMs;
  }

  /** Jumps as a stopped process sees it: time has passed, and every timer that is due fires late. */
  jump(ms: number): void {
    this.#nowMs += ms;
    this.advance(0);
  }

  #next(untilMs: number): Timer | null {
    let first: Timer | null = null;
    for (const timer of this.#timers) {
      if (timer.atMs <= untilMs && (first === null || timer.atMs < first.atMs)) first = timer;
    }
    return first;
  }
}
