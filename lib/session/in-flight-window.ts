/** The credit that this side gives for all DATA of a session: it bounds what lies between the two processes (R-FLOW-5). */
import { VproxyError } from '../errors.js';

/** The largest in-flight credit, in bytes. */
export const MAX_IN_FLIGHT_BYTES = 64 * 2 ** 20;

/** Raised as DATA arrives, whatever becomes of it, so it never depends on a stream. */
export class InFlightWindow {
  #windowBytes: number;
  #grantedBytes: number;
  #receivedBytes = 0;
  #roundFromBytes = 0;
  #roundFromMs: number;

  constructor(firstBytes: number, nowMs: number) {
    this.#windowBytes = firstBytes;
    this.#grantedBytes = firstBytes;
    this.#roundFromMs = nowMs;
  }

  /** How many bytes of DATA the peer may have sent in this session. */
  get grantedBytes(): number {
    return this.#grantedBytes;
  }

  /** DATA received in this session, in bytes. */
  get receivedBytes(): number {
    return this.#receivedBytes;
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

  /** Whether a window's worth of DATA has come since the last round ended. */
  get isRoundOver(): boolean {
    return this.#receivedBytes - this.#roundFromBytes >= this.#windowBytes;
  }

  /** Begins the next round; how long the last one took, in milliseconds. */
  endRound(nowMs: number): number {
    const tookMs = nowMs - this.#roundFromMs;
    this.#roundFromBytes = this.#receivedBytes;
    this.#roundFromMs = nowMs;
    return tookMs;
  }

  /** Doubles the window. */
  grow(): void {
    this.#windowBytes = Math.min(2 * this.#windowBytes, MAX_IN_FLIGHT_BYTES);
  }
}
