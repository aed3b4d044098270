/** Why the clock of a machine differs from its host's: what two measurements show (R-CLOCK-4). */
import type { ClockAnswer } from './clock-messages.js';

export interface ClockSample extends Pick<ClockAnswer, 'host' | 'seen'> {
  /** The number of the request. */
  readonly seq: number;
  /** The host's clock minus this machine's, in milliseconds. */
  readonly offsetMs: number;
  /** Half of the round trip, in milliseconds. */
  readonly uncertaintyMs: number;
  /** The times since the boots of the host and of this machine, at the same moment. */
  readonly hostUpMs: number;
  readonly upMs: number;
}

/**
 * `start`: the first measurement of this process. `restored`: the machine continues from an earlier state. `paused`: it did
 * not run for a while. `host-clock`: the host's clock, or this one, was changed. `new-host`: another process answers, and the
 * clocks have not moved. `none`: nothing happened.
 */
export type ClockCause = 'start' | 'restored' | 'paused' | 'host-clock' | 'new-host' | 'none';

/** Compares a measurement with the one before it; changes of at most `thresholdMs` are ignored. */
export function causeOf(before: ClockSample | null, now: ClockSample, thresholdMs: number): ClockCause {
  if (before === null) return 'start';
  // The host knows a request that has not been made yet: this machine was put back.
  if (now.seen !== null && now.seen >= now.seq) return 'restored';
  const toleranceMs = thresholdMs + now.uncertaintyMs + before.uncertaintyMs;
  const hasMoved = Math.abs(now.offsetMs - before.offsetMs) > toleranceMs;
  if (now.host !== before.host) return hasMoved ? 'restored' : 'new-host';
  const stoodMs = now.hostUpMs - before.hostUpMs - (now.upMs - before.upMs);
  if (stoodMs > toleranceMs) return 'paused';
  return hasMoved ? 'host-clock' : 'none';
}
