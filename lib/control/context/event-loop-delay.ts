/** The delay of the event loop. Measuring costs a timer, so it stops when no client asks. */
import { type IntervalHistogram, monitorEventLoopDelay } from 'node:perf_hooks';
import type { LoopDelay } from '../../status/types.js';
import type { CancelTimer, Clock } from '../../util/clock.js';

/** How often the loop is sampled while it is measured. */
const RESOLUTION_MS = 20;

/** The measurement stops when no client has asked for this long. */
const FORGET_MS = 60_000;

/** Measures the delay between requests. */
export class EventLoopDelay {
  readonly #clock: Clock;
  #histogram: IntervalHistogram | null = null;
  #cancelForget: CancelTimer | null = null;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** The delay since the last call; null if that was too long ago, or there is no sample since. */
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

  /** Stops measuring until the next `take`. */
  stop(): void {
    this.#cancelForget?.();
    this.#cancelForget = null;
    this.#histogram?.disable();
    this.#histogram = null;
  }
}

/** The histogram holds the time between samples, which includes the interval itself. */
function describe(histogram: IntervalHistogram): LoopDelay {
  const late = (ns: number): number => Math.max(0, Math.round((ns / 1e6 - RESOLUTION_MS) * 1000) / 1000);
  return { meanMs: late(histogram.mean), p99Ms: late(histogram.percentile(99)), maxMs: late(histogram.max) };
}
