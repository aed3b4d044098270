/** How late the event loop comes to what is due. Measuring costs a timer, so it goes on only while somebody asks. */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { CancelTimer, Clock } from '../../util/clock.js';

/** By how much timers came late, in milliseconds. */
export interface LoopDelay {
  /** On average. */
  readonly meanMs: number;
  /** All but one of a hundred. */
  readonly p99Ms: number;
  /** At most. */
  readonly maxMs: number;
}

/** How often the loop is looked at while it is measured, in milliseconds. */
const RESOLUTION_MS = 20;

/** The measuring ends when nobody has asked for so long, in milliseconds. */
const FORGET_MS = 60_000;

/** Measures from one request for it to the next. */
export class EventLoopDelay {
  readonly #clock: Clock;
  #histogram: IntervalHistogram | null = null;
  #cancelForget: CancelTimer | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** What was measured since the last call; null where there was none in a while, or nothing was seen yet. */
  take(): LoopDelay | null {
    this.#cancelForget?.();
    this.#cancelForget = this.#clock.schedule(FORGET_MS, () => this.stop());
    const histogram = this.#histogram;
    if (histogram === null) {
      this.#histogram = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
      this.#histogram.enable();
      return null;
    }
    if (histogram.count === 0) return null;
    const delay = describe(histogram);
    histogram.reset();
    return delay;
  }

  /** Ends the measuring; the next request begins it anew. */
  stop(): void {
    this.#cancelForget?.();
    this.#cancelForget = null;
    this.#histogram?.disable();
    this.#histogram = null;
  }
}

/** The histogram holds the time from one look to the next, of which the pause between two is no delay. */
function describe(histogram: IntervalHistogram): LoopDelay {
  const late = (ns: number): number => Math.max(0, Math.round((ns / 1e6 - RESOLUTION_MS) * 1000) / 1000);
  return { meanMs: late(histogram.mean), p99Ms: late(histogram.percentile(99)), maxMs: late(histogram.max) };
}
