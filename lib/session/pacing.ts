/** How fast the bytes of streams may go and come: a limit that many streams share, and what is before a local end for it. */

import type { VproxyError } from '../errors.js';
import { ByteQueue, dropView } from '../util/bytes/byte-queue.js';
import type { Clock } from '../util/clock.js';
import type { LocalEnd } from './local-end.js';

/** How fast bytes may go, and come; streams share limits. */
export interface StreamPace {
  readonly send: Pacer;
  readonly receive: Pacer;
}

/** What may pass at once after a pause: a tenth of a second's worth, and at least this many bytes. */
const MIN_BURST_BYTES = 16_384;

/** A turn is worth a hundredth of a second, within these bounds: no dust is sent, and no turn keeps the next one waiting. */
const TURNS_PER_SECOND = 100;
const MIN_TURN_BYTES = 512;
const MAX_TURN_BYTES = 131_072;

/** How many bytes may pass, and when. */
export interface PaceLimit {
  /** What one who waits may take in its turn, in bytes: it has none before there is as much. */
  readonly turnBytes: number;
  /** How many bytes may pass now. */
  readonly availableBytes: number;
  /** Counts bytes that passed, which were available. */
  take(bytes: number): void;
  /** Calls back once, when bytes may pass. */
  whenAvailable(callback: () => void): void;
  /** Takes back what `whenAvailable` was given. */
  forget(callback: () => void): void;
}

/** All may pass at once. */
export const UNLIMITED: PaceLimit = {
  turnBytes: Number.POSITIVE_INFINITY,
  availableBytes: Number.POSITIVE_INFINITY,
  take: () => undefined,
  whenAvailable: (callback) => callback(),
  forget: () => undefined,
};

export class Pacer implements PaceLimit {
  readonly turnBytes: number;
  readonly #bytesPerMs: number;
  readonly #burstBytes: number;
  readonly #clock: Clock;
  /** Those who wait, in the order of their turns. */
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

  /** 0 while others wait, except in one's turn. */
  get availableBytes(): number {
    return this.#waiting.size > 0 && !this.#isTurn ? 0 : Math.floor(this.#refill());
  }

  take(bytes: number): void {
    this.#availableBytes -= bytes;
  }

  /** Calls back in turn. Who waits already keeps its place. */
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

  /** A caller that takes its turn and has more to do waits again, behind the others. */
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

/** What waits before a local end: bytes, and what is behind them. */
export interface WaitingState {
  readonly pieces: readonly Buffer[];
  readonly hasFin: boolean;
  /** Whether the stream has ended in order. */
  readonly hasEnd: boolean;
}

const NOTHING_WAITS: WaitingState = { pieces: [], hasFin: false, hasEnd: false };

/**
 * Hands bytes to a sink no faster than the limit allows, and what ends them behind the last one: FIN, and the end of a
 * stream that ended in order. What tears a stream down drops them. Credit of the stream bounds what waits: none goes back
 * for bytes that the sink has not been given.
 */
export class PacedEnd implements LocalEnd {
  readonly #sink: LocalEnd;
  readonly #limit: PaceLimit;
  readonly #queue = new ByteQueue();
  #hasFin: boolean;
  #hasEnd: boolean;

  /** With what waited in another one `goOn` is to follow. */
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

  /** From now on what waits is handed on, as fast as the limit allows. */
  goOn(): void {
    if (this.waitingBytes > 0) this.#limit.whenAvailable(this.#takeTurn);
    else this.#finish();
  }

  /** The number of bytes that wait. */
  get waitingBytes(): number {
    return this.#queue.byteCount;
  }

  handleData(bytes: Buffer): boolean {
    const passing = this.waitingBytes > 0 ? 0 : Math.min(bytes.length, this.#limit.availableBytes);
    let isKept = false;
    // What waits first: the sink may tear the stream down in the call.
    if (passing < bytes.length) {
      isKept = this.#queue.push(bytes.subarray(passing));
      this.#limit.whenAvailable(this.#takeTurn);
    }
    if (passing === 0) return isKept;
    this.#limit.take(passing);
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
    this.#sink.handleAccept();
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

  /** The sink wants no more of it: drops what waits, which is how many bytes. An end that waited comes at once. */
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
      this.#limit.take(bytes.length);
      this.#sink.handleData(bytes);
      if (isView) dropView();
    }
    if (this.waitingBytes > 0) this.#limit.whenAvailable(this.#takeTurn);
    else this.#finish();
  };

  /** The last byte has passed. */
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
