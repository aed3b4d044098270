/** The credit that this side gives on one stream: it protects this side's memory (R-FLOW-3, R-FLOW-4). */
import { VproxyError } from '../errors.js';
import type { Budget } from './budget.js';

/** The largest window of a stream, in bytes. */
export const MAX_WINDOW_BYTES = 32 * 2 ** 20;

/** A window grows when half of it left the receiver within so many round trips. */
const GROWTH_ROUND_TRIPS = 4;

/** The time, and how long a round trip takes. */
export interface Pace {
  readonly nowMs: number;
  readonly roundTripMs: number;
}

/** What came, what left again, and how much the peer may send. All totals count from the start of the stream. */
export class ReceiveWindow {
  readonly #budget: Budget;
  readonly #firstBytes: number;
  #windowBytes: number;
  #grantedBytes: number;
  #receivedBytes = 0;
  #releasedBytes = 0;
  #raisedAtMs: number;

  constructor(firstBytes: number, budget: Budget, nowMs: number) {
    this.#firstBytes = firstBytes;
    this.#windowBytes = firstBytes;
    this.#grantedBytes = firstBytes;
    this.#budget = budget;
    this.#raisedAtMs = nowMs;
  }

  /** How many bytes the peer may have sent in total. */
  get grantedBytes(): number {
    return this.#grantedBytes;
  }

  get windowBytes(): number {
    return this.#windowBytes;
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** What came and has not left. */
  get heldBytes(): number {
    return this.#receivedBytes - this.#releasedBytes;
  }

  /** Counts what came. Throws `flow-control` beyond the credit. */
  receive(bytes: number, streamId: number): void {
    this.#receivedBytes += bytes;
    if (this.#receivedBytes > this.#grantedBytes) {
      const sent = this.#receivedBytes;
      throw new VproxyError(
        'flow-control',
        `${sent} bytes on stream ${streamId} exceed its credit of ${this.#grantedBytes}`,
      );
    }
  }

  /**
   * Counts what left the receiver. True when the credit was raised and the peer should hear of it: as soon as half of
   * the window has left. `pace`, which is asked only then, decides whether a window that may grow does.
   */
  release(bytes: number, pace: Pace, mayGrow: boolean): boolean {
    this.#releasedBytes += bytes;
    if (this.#releasedBytes + this.#windowBytes - this.#grantedBytes < this.#windowBytes / 2) return false;
    const { nowMs, roundTripMs } = pace;
    if (mayGrow && nowMs - this.#raisedAtMs <= GROWTH_ROUND_TRIPS * roundTripMs) this.#grow();
    this.#raisedAtMs = nowMs;
    this.#grantedBytes = this.#releasedBytes + this.#windowBytes;
    return true;
  }

  /** Gives back what the window took of the budget. Nothing may be received afterwards. */
  close(): void {
    this.#budget.release(this.#windowBytes - this.#firstBytes);
    this.#windowBytes = this.#firstBytes;
    this.#releasedBytes = this.#receivedBytes;
  }

  #grow(): void {
    const more = Math.min(this.#windowBytes, MAX_WINDOW_BYTES - this.#windowBytes);
    if (more > 0 && this.#budget.reserve(more)) this.#windowBytes += more;
  }
}
