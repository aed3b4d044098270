/** The credit of a whole session, on the receiving side: what is granted, and when its window grows (R-FLOW-5). */
import type { Clock } from '../util/clock.js';
import { InFlightWindow } from './in-flight-window.js';
import type { Creditor } from './outbox.js';
import { RoundTrip } from './round-trip.js';

/** Joins the in-flight window with the measurements of the round trip that decide about its size. */
export class SessionCredit implements Creditor {
  readonly id = 0;
  isCreditDue = false;
  readonly #clock: Clock;
  readonly #window: InFlightWindow;
  readonly #roundTrip = new RoundTrip();
  readonly #sendPing: (payload: Buffer) => void;
  /** Whether the newest round took hardly longer than a round trip: the sender waits for credit. */
  #wasHeldBack = false;

  constructor(options: {
    readonly clock: Clock;
    /** The first credit that this side announced, in bytes. */
    readonly firstBytes: number;
    readonly sendPing: (payload: Buffer) => void;
  }) {
    this.#clock = options.clock;
    this.#window = new InFlightWindow(options.firstBytes, options.clock.now());
    this.#sendPing = options.sendPing;
  }

  get grantedBytes(): number {
    return this.#window.grantedBytes;
  }

  /** DATA received in this session, in bytes. */
  get receivedBytes(): number {
    return this.#window.receivedBytes;
  }

  /** The newest measurement of the round trip, in milliseconds; null before the first. */
  get measuredMs(): number | null {
    return this.#roundTrip.measuredMs;
  }

  /** The newest round-trip time, in milliseconds; before the first measurement what is assumed. */
  get roundTripMs(): number {
    return this.#roundTrip.latestMs;
  }

  /** Whether a PING waits for its PONG. */
  get isMeasuring(): boolean {
    return this.#roundTrip.isMeasuring;
  }

  /** Measures the round trip. */
  ping(): void {
    this.#sendPing(this.#roundTrip.begin(this.#clock.now()));
  }

  /** Counts DATA that came. True when the credit was raised. Throws `flow-control`. */
  receive(bytes: number): boolean {
    const isRaised = this.#window.receive(bytes);
    if (this.#window.isRoundOver && !this.#roundTrip.isMeasuring) {
      // Under load a round trip takes longer than at rest, and the windows of the streams have to span it.
      const tookMs = this.#window.endRound(this.#clock.now());
      this.#wasHeldBack = tookMs <= 2 * this.#roundTrip.smallestMs;
      this.ping();
    }
    return isRaised;
  }

  /** True where the PONG answered the PING that was on the way. */
  takePong(payload: Buffer): boolean {
    if (!this.#roundTrip.finish(payload, this.#clock.now())) return false;
    if (this.#wasHeldBack) this.#growUnlessQueued();
    return true;
  }

  #growUnlessQueued(): void {
    this.#wasHeldBack = false;
    // A round trip that has become longer shows a queue: more in flight would only make it longer.
    if (this.#roundTrip.latestMs < 2 * this.#roundTrip.smallestMs) this.#window.grow();
  }
}
