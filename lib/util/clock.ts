/** Time as something that is given: the system's clock, or one that a test moves by hand. */

/** A clock with timers. */
export interface Clock {
  /** Milliseconds since an arbitrary moment; never goes back. */
  now(): number;
  /** Calls back once after `delayMs`; the function returned cancels that. */
  schedule(delayMs: number, callback: () => void): CancelTimer;
}

/** Cancels a scheduled call; harmless when it was made already. */
export type CancelTimer = () => void;

/** The monotonic clock of this process. */
export const systemClock: Clock = {
  now: () => performance.now(),
  schedule(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};
