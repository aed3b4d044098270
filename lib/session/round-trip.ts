/** The round-trip time of a channel, measured by PING and PONG (R-LIVE-1). */

/** What is assumed before the first measurement, in milliseconds. */
const ASSUMED_MS = 10;

/** A clock's ticks and the event loop's turns make shorter times meaningless. */
const FLOOR_MS = 0.5;

/** At most one PING is on the way; its answer is a measurement. */
export class RoundTrip {
  #nonce = 0;
  #sentAtMs: number | null = null;
  #latestMs = ASSUMED_MS;
  #smallestMs = Number.POSITIVE_INFINITY;

  /** Whether a PING waits for its PONG. */
  get isMeasuring(): boolean {
    return this.#sentAtMs !== null;
  }

  /** The newest measurement, in milliseconds; null before the first. */
  get measuredMs(): number | null {
    return Number.isFinite(this.#smallestMs) ? this.#latestMs : null;
  }

  /** The newest measurement; what is assumed before the first. */
  get latestMs(): number {
    return this.#latestMs;
  }

  /** The smallest one: the channel without queues. */
  get smallestMs(): number {
    return Math.min(this.#smallestMs, Math.max(this.#latestMs, FLOOR_MS));
  }

  /** Notes that a PING is sent now; its 8 bytes. */
  begin(nowMs: number): Buffer {
    this.#nonce += 1;
    this.#sentAtMs = nowMs;
    const payload = Buffer.alloc(8);
    payload.writeDoubleBE(this.#nonce);
    return payload;
  }

  /** Takes a PONG. False for one that answers nothing that is on the way. */
  finish(payload: Buffer, nowMs: number): boolean {
    if (this.#sentAtMs === null || payload.readDoubleBE(0) !== this.#nonce) return false;
    this.#latestMs = Math.max(nowMs - this.#sentAtMs, FLOOR_MS);
    this.#smallestMs = Math.min(this.#smallestMs, this.#latestMs);
    this.#sentAtMs = null;
    return true;
  }
}
