/** The credit that this side gives: on one stream, which protects its memory, and in a session, which bounds what is on the way (R-FLOW-2 to R-FLOW-5). */
import { VproxyError } from '../errors.js';
import type { Budget } from '../util/bounds.js';
import type { Clock } from '../util/clock.js';

/** The largest window of a stream, in bytes. */
const MAX_WINDOW_BYTES = 32 * 2 ** 20;

/** A window grows when half of it left the receiver within this number of round trips. */
const GROWTH_ROUND_TRIPS = 4;

/** The time, and how long a round trip takes. */
export interface Pace {
  readonly nowMs: number;
  readonly roundTripMs: number;
}

/** What a {@link ReceiveWindow} counts, in totals since its stream began. */
export interface ReceiveWindowState {
  windowBytes: number;
  /** How many bytes the peer may have sent. */
  grantedBytes: number;
  receivedBytes: number;
  releasedBytes: number;
  /** When the credit was raised last. */
  raisedAtMs: number;
}

export const newReceiveWindow = (firstBytes: number, nowMs: number): ReceiveWindowState => ({
  windowBytes: firstBytes,
  grantedBytes: firstBytes,
  receivedBytes: 0,
  releasedBytes: 0,
  raisedAtMs: nowMs,
});

/** The credit of one stream: what came, what left again, and how much the peer may send (R-FLOW-3, R-FLOW-4). */
export class ReceiveWindow {
  readonly state: ReceiveWindowState;
  readonly #budget: Budget;
  readonly #firstBytes: number;

  /** Takes its part of the budget; where that is not there, no more is granted than to a new stream. */
  constructor(firstBytes: number, budget: Budget, state: ReceiveWindowState) {
    this.state = state;
    this.#firstBytes = firstBytes;
    this.#budget = budget;
    if (!budget.reserve(state.windowBytes - firstBytes)) state.windowBytes = firstBytes;
  }

  /** What came and has not left. */
  get heldBytes(): number {
    return this.state.receivedBytes - this.state.releasedBytes;
  }

  /** Counts what came. Throws `flow-control` beyond the credit. */
  receive(bytes: number, streamId: number): void {
    const { state } = this;
    state.receivedBytes += bytes;
    if (state.receivedBytes > state.grantedBytes) {
      const { receivedBytes, grantedBytes } = state;
      throw new VproxyError(
        'flow-control',
        `${receivedBytes} bytes on stream ${streamId} exceed its credit of ${grantedBytes}`,
      );
    }
  }

  /**
   * Counts what left the receiver. True when the credit was raised and the peer should hear of it: as soon as half of
   * the window has left. `pace`, which is asked only then, decides whether a window that may grow does.
   */
  release(bytes: number, pace: Pace, mayGrow: boolean): boolean {
    const { state } = this;
    state.releasedBytes += bytes;
    if (state.releasedBytes + state.windowBytes - state.grantedBytes < state.windowBytes / 2) return false;
    const { nowMs, roundTripMs } = pace;
    if (mayGrow && nowMs - state.raisedAtMs <= GROWTH_ROUND_TRIPS * roundTripMs) this.#grow();
    state.raisedAtMs = nowMs;
    state.grantedBytes = state.releasedBytes + state.windowBytes;
    return true;
  }

  /** Gives back what the window took of the budget. Nothing may be received afterwards. */
  close(): void {
    const { state } = this;
    this.#budget.release(state.windowBytes - this.#firstBytes);
    state.windowBytes = this.#firstBytes;
    state.releasedBytes = state.receivedBytes;
  }

  #grow(): void {
    const { state } = this;
    const more = Math.min(state.windowBytes, MAX_WINDOW_BYTES - state.windowBytes);
    if (more > 0 && this.#budget.reserve(more)) state.windowBytes += more;
  }
}

/** The largest in-flight credit, in bytes. */
const MAX_IN_FLIGHT_BYTES = 64 * 2 ** 20;

/** What an {@link InFlightCredit} has granted and measured. */
export interface InFlightCreditState {
  windowBytes: number;
  /** How many bytes of DATA the peer may have sent in this session, and has. */
  grantedBytes: number;
  receivedBytes: number;
  /** Where and when the round began. */
  roundFromBytes: number;
  roundFromMs: number;
  /** Whether the newest round took hardly longer than a round trip: the sender waits for credit. */
  wasHeldBack: boolean;
  readonly roundTrip: RoundTripState;
}

/**
 * The credit that this side gives for all DATA of a session, which bounds what lies between the two processes: raised as DATA
 * arrives, whatever becomes of it, so it never depends on a stream. Measurements of the round trip decide about its size
 * (R-FLOW-5). It is the {@link Pace} of the streams.
 */
export class InFlightCredit implements Pace {
  /** The session's, where the scheduler announces credit. */
  readonly id = 0;
  isCreditDue = false;
  readonly state: InFlightCreditState;
  readonly roundTrip: RoundTrip;
  readonly #clock: Clock;
  readonly #sendPing: (payload: Buffer) => void;

  constructor(
    options: {
      readonly clock: Clock;
      /** The first credit that this side announced, in bytes. */
      readonly firstBytes: number;
      readonly sendPing: (payload: Buffer) => void;
      /** For the nonces of PINGs. */
      readonly randomBytes: (count: number) => Buffer;
    },
    state: InFlightCreditState = {
      windowBytes: options.firstBytes,
      grantedBytes: options.firstBytes,
      receivedBytes: 0,
      roundFromBytes: 0,
      roundFromMs: options.clock.now(),
      wasHeldBack: false,
      roundTrip: newRoundTrip(),
    },
  ) {
    this.state = state;
    this.roundTrip = new RoundTrip(options.randomBytes, state.roundTrip);
    this.#clock = options.clock;
    this.#sendPing = options.sendPing;
  }

  get grantedBytes(): number {
    return this.state.grantedBytes;
  }

  get roundTripMs(): number {
    return this.state.roundTrip.latestMs;
  }

  get nowMs(): number {
    return this.#clock.now();
  }

  /** Measures the round trip. Gives the 8 bytes that the answer will have. */
  ping(): Buffer {
    const payload = this.roundTrip.begin(this.#clock.now());
    this.#sendPing(payload);
    return payload;
  }

  /** Counts DATA that came. True when a quarter of the window is used and the credit was raised. Throws `flow-control`. */
  receive(bytes: number): boolean {
    const { state } = this;
    state.receivedBytes += bytes;
    if (state.receivedBytes > state.grantedBytes) {
      const { receivedBytes, grantedBytes } = state;
      throw new VproxyError(
        'flow-control',
        `${receivedBytes} bytes of DATA exceed the session's credit of ${grantedBytes}`,
      );
    }
    const isRaised = state.grantedBytes - state.receivedBytes <= state.windowBytes * 0.75;
    if (isRaised) state.grantedBytes = state.receivedBytes + state.windowBytes;
    const isRoundOver = state.receivedBytes - state.roundFromBytes >= state.windowBytes;
    if (isRoundOver && !this.roundTrip.isMeasuring) this.#endRound();
    return isRaised;
  }

  #endRound(): void {
    const { state } = this;
    const nowMs = this.#clock.now();
    state.wasHeldBack = nowMs - state.roundFromMs <= 2 * this.roundTrip.smallestMs;
    state.roundFromBytes = state.receivedBytes;
    state.roundFromMs = nowMs;
    // Under load a round trip takes longer than at rest, and the windows of the streams have to span it.
    this.ping();
  }

  /** True where the PONG answered the PING that was on the way. */
  takePong(payload: Buffer): boolean {
    const { state } = this;
    if (!this.roundTrip.finish(payload, this.#clock.now())) return false;
    // A round trip that has become longer shows a queue: more in flight would only make it longer.
    if (state.wasHeldBack && state.roundTrip.latestMs < 2 * this.roundTrip.smallestMs)
      state.windowBytes = Math.min(2 * state.windowBytes, MAX_IN_FLIGHT_BYTES);
    state.wasHeldBack = false;
    return true;
  }
}

/** What is assumed before the first measurement, in milliseconds. */
const ASSUMED_MS = 10;

/** A clock's ticks and the event loop's turns make shorter times meaningless. */
const FLOOR_MS = 0.5;

interface RoundTripState {
  nonce: number;
  /** When the PING was sent that waits for its PONG; null where none waits. */
  sentAtMs: number | null;
  /** The newest measurement; before the first one what is assumed. */
  latestMs: number;
  /** Infinite before the first measurement. */
  smallestMs: number;
}

const newRoundTrip = (): RoundTripState => ({
  nonce: 0,
  sentAtMs: null,
  latestMs: ASSUMED_MS,
  smallestMs: Number.POSITIVE_INFINITY,
});

/** As many as a number holds exactly. */
const NONCE_BYTES = 6;

/** The round-trip time of a channel (R-LIVE-1): at most one PING is on the way; its answer is a measurement. */
class RoundTrip {
  readonly #randomBytes: (count: number) => Buffer;
  readonly #state: RoundTripState;

  constructor(randomBytes: (count: number) => Buffer, state: RoundTripState) {
    this.#randomBytes = randomBytes;
    this.#state = state;
  }

  /** Whether a PING waits for its PONG. */
  get isMeasuring(): boolean {
    return this.#state.sentAtMs !== null;
  }

  /** The newest measurement, in milliseconds; null before the first. */
  get measuredMs(): number | null {
    return Number.isFinite(this.#state.smallestMs) ? this.#state.latestMs : null;
  }

  /** The smallest one: the channel without queues. */
  get smallestMs(): number {
    return Math.min(this.#state.smallestMs, Math.max(this.#state.latestMs, FLOOR_MS));
  }

  /** Notes that a PING is sent now; its 8 bytes, which nobody can guess (R-LIVE-4). */
  begin(nowMs: number): Buffer {
    this.#state.nonce = this.#randomBytes(NONCE_BYTES).readUIntBE(0, NONCE_BYTES);
    this.#state.sentAtMs = nowMs;
    const payload = Buffer.alloc(8);
    payload.writeDoubleBE(this.#state.nonce);
    return payload;
  }

  /** A PONG that still comes is none. */
  abandon(): void {
    this.#state.sentAtMs = null;
  }

  /** Takes a PONG. False for one that answers nothing that is on the way. */
  finish(payload: Buffer, nowMs: number): boolean {
    if (this.#state.sentAtMs === null || payload.readDoubleBE(0) !== this.#state.nonce) return false;
    this.#state.latestMs = Math.max(nowMs - this.#state.sentAtMs, FLOOR_MS);
    this.#state.smallestMs = Math.min(this.#state.smallestMs, this.#state.latestMs);
    this.#state.sentAtMs = null;
    return true;
  }
}
