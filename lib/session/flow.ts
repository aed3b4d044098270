/** The credit given by this side: per stream, to protect memory; per session, to bound bytes in flight (R-FLOW-2 to R-FLOW-5). */
import { VproxyError } from '../errors.js';
import type { Budget } from '../util/bounds.js';
import type { Clock } from '../util/clock.js';
import { assertInvariants } from '../util/invariant.js';

const MAX_WINDOW_BYTES = 32 * 2 ** 20;

/** A window grows when half of it left the receiver within this many round trips. */
const GROWTH_ROUND_TRIPS = 4;

/** The current time, and the duration of a round trip. */
export interface Pace {
  readonly nowMs: number;
  readonly roundTripMs: number;
}

/** The counters of a {@link ReceiveWindow}, in totals since its stream began. */
export interface ReceiveWindowState {
  windowBytes: number;
  /** The total that the peer may have sent. */
  grantedBytes: number;
  receivedBytes: number;
  releasedBytes: number;
  /** When the credit was last raised. */
  raisedAtMs: number;
}

export const newReceiveWindow = (firstBytes: number, nowMs: number): ReceiveWindowState => ({
  windowBytes: firstBytes,
  grantedBytes: firstBytes,
  receivedBytes: 0,
  releasedBytes: 0,
  raisedAtMs: nowMs,
});

/** The credit of one stream: bytes received, bytes released, and how much the peer may send (R-FLOW-3, R-FLOW-4). */
export class ReceiveWindow {
  readonly state: ReceiveWindowState;
  readonly #budget: Budget;
  readonly #firstBytes: number;

  /** Reserves its part of the budget; without room there, it grants no more than a new stream. */
  constructor(firstBytes: number, budget: Budget, state: ReceiveWindowState) {
    this.state = state;
    this.#firstBytes = firstBytes;
    this.#budget = budget;
    if (!budget.reserve(state.windowBytes - firstBytes)) state.windowBytes = firstBytes;
  }

  /** Received bytes that were not released. */
  get unreadBytes(): number {
    return this.state.receivedBytes - this.state.releasedBytes;
  }

  /** Counts received bytes. Throws `flow-control` beyond the credit. */
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
    INVARIANT: assertWindow(state, this.#firstBytes);
  }

  /**
   * Counts bytes that left the receiver. Returns true if the credit was raised and the peer should hear of it: as soon as half of
   * the window has left. `pace`, used only then, decides whether a window that may grow does.
   */
  release(bytes: number, pace: Pace, mayGrow: boolean): boolean {
    const { state } = this;
    state.releasedBytes += bytes;
    INVARIANT: assertWindow(state, this.#firstBytes);
    if (state.releasedBytes + state.windowBytes - state.grantedBytes < state.windowBytes / 2) return false;
    const { nowMs, roundTripMs } = pace;
    if (mayGrow && nowMs - state.raisedAtMs <= GROWTH_ROUND_TRIPS * roundTripMs) this.#grow();
    state.raisedAtMs = nowMs;
    state.grantedBytes = state.releasedBytes + state.windowBytes;
    INVARIANT: assertWindow(state, this.#firstBytes);
    return true;
  }

  /** Returns the window's part of the budget. Nothing may be received afterwards. */
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

function assertWindow(state: ReceiveWindowState, firstBytes: number): void {
  const { windowBytes, grantedBytes, receivedBytes, releasedBytes } = state;
  const mostBytes = Math.max(MAX_WINDOW_BYTES, firstBytes);
  assertInvariants(
    'receive window',
    () => ({ ...state }),
    releasedBytes <= receivedBytes && receivedBytes <= grantedBytes,
    firstBytes <= windowBytes && windowBytes <= mostBytes,
    // A window that is restored without room in the budget is smaller than what it granted.
    grantedBytes - releasedBytes <= mostBytes,
  );
}

const MAX_IN_FLIGHT_BYTES = 64 * 2 ** 20;

export interface InFlightCreditState {
  windowBytes: number;
  /** DATA that the peer may have sent in this session, and has sent, in bytes. */
  grantedBytes: number;
  receivedBytes: number;
  /** Position and time at which the current round began. */
  roundFromBytes: number;
  roundFromMs: number;
  /** Whether the newest round took hardly longer than a round trip: the sender waits for credit. */
  wasHeldBack: boolean;
  readonly roundTrip: RoundTripState;
}

/**
 * The credit that this side gives for all DATA of a session, which bounds what is in flight between the two processes: raised as
 * DATA arrives, whether or not it is read, so it never depends on a stream. Measurements of the round trip decide its size
 * (R-FLOW-5). It is the {@link Pace} of the streams.
 */
export class InFlightCredit implements Pace {
  /** The session itself, as a creditor of the scheduler. */
  readonly id = 0;
  isCreditDue = false;
  readonly state: InFlightCreditState;
  readonly roundTrip: RoundTrip;
  readonly #clock: Clock;
  readonly #sendPing: (payload: Buffer) => void;

  constructor(
    options: {
      readonly clock: Clock;
      /** The initial credit that this side announced, in bytes. */
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

  /** Measures the round trip. Returns the 8 bytes that the answer will contain. */
  ping(): Buffer {
    const payload = this.roundTrip.begin(this.#clock.now());
    this.#sendPing(payload);
    return payload;
  }

  /** Counts received DATA. Returns true if a quarter of the window was used and the credit raised. Throws `flow-control`. */
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
    INVARIANT: assertInvariants(
      'credit of the session',
      () => ({ ...state }),
      state.grantedBytes - state.receivedBytes > state.windowBytes * 0.75,
      state.grantedBytes - state.receivedBytes <= state.windowBytes,
      state.roundFromBytes <= state.receivedBytes,
    );
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
    // Round trips under load take longer than at rest, and the windows of the streams must span them.
    this.ping();
  }

  /** Returns true if the PONG answered the PING in flight. */
  handlePong(payload: Buffer): boolean {
    const { state } = this;
    if (!this.roundTrip.finish(payload, this.#clock.now())) return false;
    // A longer round trip indicates a queue: more in flight would only lengthen it.
    if (state.wasHeldBack && state.roundTrip.latestMs < 2 * this.roundTrip.smallestMs)
      state.windowBytes = Math.max(state.windowBytes, Math.min(2 * state.windowBytes, MAX_IN_FLIGHT_BYTES));
    state.wasHeldBack = false;
    return true;
  }
}

/** Assumed before the first measurement, in milliseconds. */
const ASSUMED_MS = 10;

/** Clock ticks and event loop turns make shorter times meaningless. */
const FLOOR_MS = 0.5;

interface RoundTripState {
  nonce: number;
  /** When the unanswered PING was sent; null if none is in flight. */
  sentAtMs: number | null;
  /** The newest measurement, or the assumed value before the first. */
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

/** The most whole bytes that a number holds exactly. */
const NONCE_BYTES = 6;

/** Measures the round-trip time of a channel (R-LIVE-1): at most one PING is in flight; its answer is a measurement. */
class RoundTrip {
  readonly #randomBytes: (count: number) => Buffer;
  readonly #state: RoundTripState;

  constructor(randomBytes: (count: number) => Buffer, state: RoundTripState) {
    this.#randomBytes = randomBytes;
    this.#state = state;
  }

  /** Whether a PING is unanswered. */
  get isMeasuring(): boolean {
    return this.#state.sentAtMs !== null;
  }

  /** The newest measurement, in milliseconds; null before the first. */
  get measuredMs(): number | null {
    return Number.isFinite(this.#state.smallestMs) ? this.#state.latestMs : null;
  }

  /** The smallest measurement: the channel without queues. */
  get smallestMs(): number {
    return Math.min(this.#state.smallestMs, Math.max(this.#state.latestMs, FLOOR_MS));
  }

  /** Notes that a PING is sent now. Returns its 8 bytes, which cannot be guessed (R-LIVE-4). */
  begin(nowMs: number): Buffer {
    this.#state.nonce = this.#randomBytes(NONCE_BYTES).readUIntBE(0, NONCE_BYTES);
    this.#state.sentAtMs = nowMs;
    const payload = Buffer.alloc(8);
    payload.writeDoubleBE(this.#state.nonce);
    return payload;
  }

  /** Gives the measurement up: a late PONG is ignored. */
  abandon(): void {
    this.#state.sentAtMs = null;
  }

  /** Takes a PONG. Returns false if it does not answer the PING in flight. */
  finish(payload: Buffer, nowMs: number): boolean {
    if (this.#state.sentAtMs === null || payload.readDoubleBE(0) !== this.#state.nonce) return false;
    this.#state.latestMs = Math.max(nowMs - this.#state.sentAtMs, FLOOR_MS);
    this.#state.smallestMs = Math.min(this.#state.smallestMs, this.#state.latestMs);
    this.#state.sentAtMs = null;
    return true;
  }
}
