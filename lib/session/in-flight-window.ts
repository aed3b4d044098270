/** The credit that this side gives for all DATA of a session: it bounds what lies between the two processes (R-FLOW-5). */
import { VproxyError } from '../errors.js';
import type { Clock } from '../util/clock.js';

/** The largest in-flight credit, in bytes. */
export const MAX_IN_FLIGHT_BYTES = 64 * 2 ** 20;

/** Raised as DATA arrives, whatever becomes of it, so it never depends on a stream. */
export class InFlightWindow {
  #windowBytes: number;
  #grantedBytes: number;
  #receivedBytes = 0;
  #epochBytes = 0;
  #epochAtMs: number;

  constructor(firstBytes: number, nowMs: number) {
    this.#windowBytes = firstBytes;
    this.#grantedBytes = firstBytes;
    this.#epochAtMs = nowMs;
  }

  /** How many bytes of DATA the peer may have sent in this session. */
  get grantedBytes(): number {
    return this.#grantedBytes;
  }

  get windowBytes(): number {
    return this.#windowBytes;
  }

  /** Counts DATA that came. True when a quarter of the window is used and the credit was raised. Throws `flow-control`. */
  receive(bytes: number): boolean {
    this.#receivedBytes += bytes;
    if (this.#receivedBytes > this.#grantedBytes) {
      const sent = this.#receivedBytes;
      throw new VproxyError(
        'flow-control',
        `${sent} bytes of DATA exceed the session's credit of ${this.#grantedBytes}`,
      );
    }
    if (this.#grantedBytes - this.#receivedBytes > this.#windowBytes * 0.75) return false;
    this.#grantedBytes = this.#receivedBytes + this.#windowBytes;
    return true;
  }

  /**
   * Judges after a window's worth of DATA whether the sender is held back by the credit: a window took hardly longer
   * than the round trip. True when a fresh measurement of the round trip would decide about growing.
   */
  isHoldingBack(clock: Clock, roundTripMs: number): boolean {
    if (this.#receivedBytes - this.#epochBytes < this.#windowBytes) return false;
    const nowMs = clock.now();
    const elapsedMs = nowMs - this.#epochAtMs;
    this.#epochBytes = this.#receivedBytes;
    this.#epochAtMs = nowMs;
    return this.#windowBytes < MAX_IN_FLIGHT_BYTES && elapsedMs <= 2 * roundTripMs;
  }

  /** Doubles the window. */
  grow(): void {
    this.#windowBytes = Math.min(2 * this.#windowBytes, MAX_IN_FLIGHT_BYTES);
  }
}
