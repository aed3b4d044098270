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

/** A {@link ReceiveWindow} as plain data. */
export interface ReceiveWindowCapture {
  readonly windowBytes: number;
  readonly grantedBytes: number;
  readonly receivedBytes: number;
  readonly releasedBytes: number;
  /** How long ago the credit was raised last, in milliseconds. */
  readonly raisedAgoMs: number;
}

/** The credit of one stream: what came, what left again, and how much the peer may send, in totals since its start (R-FLOW-3, R-FLOW-4). */
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

  capture(nowMs: number): ReceiveWindowCapture {
    return {
      windowBytes: this.#windowBytes,
      grantedBytes: this.#grantedBytes,
      receivedBytes: this.#receivedBytes,
      releasedBytes: this.#releasedBytes,
      raisedAgoMs: nowMs - this.#raisedAtMs,
    };
  }

  /** Takes what another one had, and its part of the budget; where that is not there, no more is granted than to a new stream. */
  restore(capture: ReceiveWindowCapture, nowMs: number): void {
    if (this.#budget.reserve(capture.windowBytes - this.#firstBytes)) this.#windowBytes = capture.windowBytes;
    this.#grantedBytes = capture.grantedBytes;
    this.#receivedBytes = capture.receivedBytes;
    this.#releasedBytes = capture.releasedBytes;
    this.#raisedAtMs = nowMs - capture.raisedAgoMs;
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

/** An {@link InFlightCredit} as plain data. */
export interface InFlightCreditCapture {
  readonly window: InFlightWindowCapture;
  readonly roundTrip: RoundTripCapture;
  readonly wasHeldBack: boolean;
}

/**
 * The credit that this side gives for all DATA of a session, which bounds what lies between the two processes: the in-flight
 * window, with the measurements of the round trip that decide about its size (R-FLOW-5). It is the {@link Pace} of the streams.
 */
export class InFlightCredit implements Pace {
  /** The session's, where the scheduler announces credit. */
  readonly id = 0;
  isCreditDue = false;
  readonly #clock: Clock;
  readonly #window: InFlightWindow;
  readonly #roundTrip: RoundTrip;
  readonly #sendPing: (payload: Buffer) => void;
  /** Whether the newest round took hardly longer than a round trip: the sender waits for credit. */
  #wasHeldBack = false;

  constructor(options: {
    readonly clock: Clock;
    /** The first credit that this side announced, in bytes. */
    readonly firstBytes: number;
    readonly sendPing: (payload: Buffer) => void;
    /** For the nonces of PINGs. */
    readonly randomBytes: (count: number) => Buffer;
  }) {
    this.#clock = options.clock;
    this.#window = new InFlightWindow(options.firstBytes, options.clock.now());
    this.#sendPing = options.sendPing;
    this.#roundTrip = new RoundTrip(options.randomBytes);
  }

  capture(): InFlightCreditCapture {
    const { nowMs } = this;
    return {
      window: this.#window.capture(nowMs),
      roundTrip: this.#roundTrip.capture(nowMs),
      wasHeldBack: this.#wasHeldBack,
    };
  }

  restore({ window, roundTrip, wasHeldBack }: InFlightCreditCapture): void {
    const { nowMs } = this;
    this.#window.restore(window, nowMs);
    this.#roundTrip.restore(roundTrip, nowMs);
    this.#wasHeldBack = wasHeldBack;
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

  get nowMs(): number {
    return this.#clock.now();
  }

  /** A measurement under way says nothing any more: the session has no link. */
  stopMeasuring(): void {
    this.#roundTrip.abandon();
  }

  /** Measures the round trip. Gives the 8 bytes that the answer will have. */
  ping(): Buffer {
    const payload = this.#roundTrip.begin(this.#clock.now());
    this.#sendPing(payload);
    return payload;
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

/** The largest in-flight credit, in bytes. */
const MAX_IN_FLIGHT_BYTES = 64 * 2 ** 20;

interface InFlightWindowCapture {
  readonly windowBytes: number;
  readonly grantedBytes: number;
  readonly receivedBytes: number;
  readonly roundFromBytes: number;
  /** How long the round lasts already, in milliseconds. */
  readonly roundMs: number;
}

/** Raised as DATA arrives, whatever becomes of it, so it never depends on a stream. */
class InFlightWindow {
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

  capture(nowMs: number): InFlightWindowCapture {
    return {
      windowBytes: this.#windowBytes,
      grantedBytes: this.#grantedBytes,
      receivedBytes: this.#receivedBytes,
      roundFromBytes: this.#roundFromBytes,
      roundMs: nowMs - this.#roundFromMs,
    };
  }

  restore(capture: InFlightWindowCapture, nowMs: number): void {
    this.#windowBytes = capture.windowBytes;
    this.#grantedBytes = capture.grantedBytes;
    this.#receivedBytes = capture.receivedBytes;
    this.#roundFromBytes = capture.roundFromBytes;
    this.#roundFromMs = nowMs - capture.roundMs;
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

/** What is assumed before the first measurement, in milliseconds. */
const ASSUMED_MS = 10;

/** A clock's ticks and the event loop's turns make shorter times meaningless. */
const FLOOR_MS = 0.5;

interface RoundTripCapture {
  readonly nonce: number;
  /** How long ago the PING was sent that waits for its PONG, in milliseconds; null where none waits. */
  readonly sentAgoMs: number | null;
  readonly latestMs: number;
  /** Null before the first measurement. */
  readonly smallestMs: number | null;
}

/** As many as a number holds exactly. */
const NONCE_BYTES = 6;

/** The round-trip time of a channel (R-LIVE-1): at most one PING is on the way; its answer is a measurement. */
class RoundTrip {
  readonly #randomBytes: (count: number) => Buffer;
  #nonce = 0;
  #sentAtMs: number | null = null;
  #latestMs = ASSUMED_MS;
  #smallestMs = Number.POSITIVE_INFINITY;

  constructor(randomBytes: (count: number) => Buffer) {
    this.#randomBytes = randomBytes;
  }

  capture(nowMs: number): RoundTripCapture {
    return {
      nonce: this.#nonce,
      sentAgoMs: this.#sentAtMs === null ? null : nowMs - this.#sentAtMs,
      latestMs: this.#latestMs,
      smallestMs: this.measuredMs === null ? null : this.#smallestMs,
    };
  }

  restore({ nonce, sentAgoMs, latestMs, smallestMs }: RoundTripCapture, nowMs: number): void {
    this.#nonce = nonce;
    this.#sentAtMs = sentAgoMs === null ? null : nowMs - sentAgoMs;
    this.#latestMs = latestMs;
    this.#smallestMs = smallestMs ?? Number.POSITIVE_INFINITY;
  }

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

  /** Notes that a PING is sent now; its 8 bytes, which nobody can guess (R-LIVE-4). */
  begin(nowMs: number): Buffer {
    this.#nonce = this.#randomBytes(NONCE_BYTES).readUIntBE(0, NONCE_BYTES);
    this.#sentAtMs = nowMs;
    const payload = Buffer.alloc(8);
    payload.writeDoubleBE(this.#nonce);
    return payload;
  }

  /** A PONG that still comes is none. */
  abandon(): void {
    this.#sentAtMs = null;
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
