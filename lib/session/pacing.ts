/** Rate limits for streams: a limit shared by many streams, and the queue in front of a local end that it needs. */

import type { VproxyError } from '../errors.js';
import { ByteQueue, dropView } from '../util/bytes/byte-queue.js';
import type { Clock } from '../util/clock.js';
import type { LocalEnd } from './local-end.js';

/** The rate limits of a stream in each direction; streams share limits. */
export interface StreamPace {
  readonly send: Pacer;
  readonly receive: Pacer;
}

/** The burst after a pause: a tenth of a second's worth, and at least this many bytes. */
const MIN_BURST_BYTES = 16_384;

/** A turn is a hundredth of a second's worth, within these bounds: no tiny pieces, and no long wait for the next turn. */
const TURNS_PER_SECOND = 100;
const MIN_TURN_BYTES = 512;
const MAX_TURN_BYTES = 131_072;

/** Decides how many bytes may pass, and when. */
export interface PaceLimit {
  /** The bytes that a waiter may take in its turn; turns begin only when that many are available. */
  readonly turnBytes: number;
  /** The bytes that may pass now. */
  readonly availableBytes: number;
  /** Counts bytes that passed; no more than were available. */
  spend(bytes: number): void;
  /** Calls back once when bytes may pass. */
  whenAvailable(callback: () => void): void;
  /** Cancels a `whenAvailable` of this callback. */
  forget(callback: () => void): void;
}

export const UNLIMITED: PaceLimit = {
  turnBytes: Number.POSITIVE_INFINITY,
  availableBytes: Number.POSITIVE_INFINITY,
  spend: () => undefined,
  whenAvailable: (callback) => callback(),
  forget: () => undefined,
};

export class Pacer implements PaceLimit {
  readonly turnBytes: number;
  readonly #bytesPerMs: number;
  readonly #burstBytes: number;
  readonly #clock: Clock;
  /** The waiters, in the order of their turns. */
  readonly #waiting = new Set<() => void>();
  #availableBytes: number;
  #atMs: number;
  #isTurn = false;
  #isScheduled = false;

  constructor(bytesPerSecond: number, clock: Clock) {
    const turnBytes = Math.ceil(bytesPerSecond / TURNS_PER_SECOND);
    this.turnBytes = Math.min(MAX_TURN_BYTES, Math.max(MIN_TURN_BYTES, turnBytes));
    this.#bytesPerMs = bytesPerSecond / 1000;
    this.#burstBytes = Math.max(MIN_BURST_BYTES, bytesPerSecond / 10);
    this.#clock = clock;
    this.#availableBytes = this.#burstBytes;
    this.#atMs = clock.now();
  }

  /**
   * 0 while others wait, except during one's own turn; and instead of a tiny amount: a sender that took what each microsecond
   * earns would never wait for a turn.
   */
  get availableBytes(): number {
    if (this.#waiting.size > 0 && !this.#isTurn) return 0;
    const bytes = Math.floor(this.#refill());
    return bytes < MIN_TURN_BYTES ? 0 : bytes;
  }

  spend(bytes: number): void {
    this.#availableBytes -= bytes;
  }

  /** Calls back in turn. A callback that already waits keeps its place. */
  whenAvailable(callback: () => void): void {
    this.#waiting.add(callback);
    this.#schedule();
  }

  forget(callback: () => void): void {
    this.#waiting.delete(callback);
  }

  #refill(): number {
    const nowMs = this.#clock.now();
    this.#availableBytes = Math.min(this.#burstBytes, this.#availableBytes + (nowMs - this.#atMs) * this.#bytesPerMs);
    this.#atMs = nowMs;
    return this.#availableBytes;
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isTurn || this.#waiting.size === 0) return;
    this.#isScheduled = true;
    const missingBytes = this.turnBytes - this.#refill();
    this.#clock.schedule(Math.max(1, Math.ceil(missingBytes / this.#bytesPerMs)), () => {
      this.#isScheduled = false;
      this.#giveTurns();
      this.#schedule();
    });
  }

  /** A callback that needs more than its turn waits again, behind the others. */
  #giveTurns(): void {
    this.#isTurn = true;
    for (const next of this.#waiting) {
      if (this.#refill() < this.turnBytes) break;
      this.#waiting.delete(next);
      next();
    }
    this.#isTurn = false;
  }
}

/** What waits in front of a local end: bytes, and the events after them. */
export interface WaitingState {
  readonly pieces: readonly Buffer[];
  readonly hasFin: boolean;
  /** Whether the stream has ended in order. */
  readonly hasEnd: boolean;
}

const NOTHING_WAITS: WaitingState = { pieces: [], hasFin: false, hasEnd: false };

/**
 * Passes bytes to a sink no faster than the limit allows, and then the events after the last byte: FIN, and the end of a
 * stream that ended in order. Any other end drops the bytes. The stream's credit bounds what waits: none is returned
 * for bytes that have not reached the sink.
 */
export class PacedEnd implements LocalEnd {
  readonly #sink: LocalEnd;
  readonly #limit: PaceLimit;
  readonly #queue = new ByteQueue();
  #hasFin: boolean;
  #hasEnd: boolean;

  /** With the `waiting` state of another one, call `goOn` next. */
  constructor(sink: LocalEnd, limit: PaceLimit, waiting: WaitingState = NOTHING_WAITS) {
    this.#sink = sink;
    this.#limit = limit;
    this.#queue.restore(waiting.pieces);
    this.#hasFin = waiting.hasFin;
    this.#hasEnd = waiting.hasEnd;
  }

  get state(): WaitingState {
    return { pieces: this.#queue.list(), hasFin: this.#hasFin, hasEnd: this.#hasEnd };
  }

  /** Starts handing on what waits, as fast as the limit allows. */
  goOn(): void {
    if (this.waitingBytes > 0) this.#limit.whenAvailable(this.#takeTurn);
    else this.#finish();
  }

  get waitingBytes(): number {
    return this.#queue.byteCount;
  }

  handleData(bytes: Buffer): boolean {
    const passing = this.waitingBytes > 0 ? 0 : Math.min(bytes.length, this.#limit.availableBytes);
    let isKept = false;
    // What waits goes first: the sink may tear the stream down in the call.
    if (passing < bytes.length) {
      isKept = this.#queue.push(bytes.subarray(passing));
      this.#limit.whenAvailable(this.#takeTurn);
    }
    if (passing === 0) return isKept;
    this.#limit.spend(passing);
    return this.#sink.handleData(bytes.subarray(0, passing)) || isKept;
  }

  handleFin(): void {
    if (this.waitingBytes > 0) this.#hasFin = true;
    else this.#sink.handleFin();
  }

  handleEnd(reason: VproxyError | null): void {
    if (reason === null && this.waitingBytes > 0) {
      this.#hasEnd = true;
      return;
    }
    this.#clear();
    this.#sink.handleEnd(reason);
  }

  handleAccept(): void {
    this.#sink.handleAccept?.();
  }

  handleStop(reason: VproxyError): void {
    this.#sink.handleStop(reason);
  }

  handleSent(isFree: boolean): void {
    this.#sink.handleSent(isFree);
  }

  listHeld(): readonly Buffer[] {
    return this.#sink.listHeld?.() ?? [];
  }

  /** Drops what waits and returns its size in bytes: the sink wants no more. A waiting end is delivered at once. */
  drop(reason: VproxyError | null): number {
    const { waitingBytes } = this;
    const hasEnd = this.#hasEnd;
    this.#clear();
    if (hasEnd) this.#sink.handleEnd(reason);
    return waitingBytes;
  }

  #clear(): void {
    this.#queue.clear();
    this.#limit.forget(this.#takeTurn);
    this.#hasFin = false;
    this.#hasEnd = false;
  }

  readonly #takeTurn = (): void => {
    for (let turnBytes = this.#limit.turnBytes; turnBytes > 0; ) {
      const block = this.#queue.shift(turnBytes);
      if (block === null) break;
      const { bytes, isView } = block;
      turnBytes -= bytes.length;
      this.#limit.spend(bytes.length);
      this.#sink.handleData(bytes);
      if (isView) dropView();
    }
    if (this.waitingBytes > 0) this.#limit.whenAvailable(this.#takeTurn);
    else this.#finish();
  };

  /** Delivers the events after the last byte. */
  #finish(): void {
    if (this.#hasFin) {
      this.#hasFin = false;
      this.#sink.handleFin();
    }
    if (!this.#hasEnd) return;
    this.#hasEnd = false;
    this.#sink.handleEnd(null);
  }
}
