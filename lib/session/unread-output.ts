/** What a local end still writes when the peer reads no more (R-STREAM-9): dropped, within bounds of work and of time. */
import type { CancelTimer, Clock } from '../util/clock.js';

/**
 * This much is dropped, and besides as much as the peer sends from then on: a program may end what it is writing before it
 * reads its answer, or answer each piece of what it gets. A peer that sends nothing makes this side read no more than that.
 */
const DROPPED_BYTES = 262_144;

/** Beyond that nothing is taken; when the peer has not sent enough by then, the local end fails. */
const GIVE_UP_MS = 10_000;
const LOOK_MS = 1000;

export interface UnreadOutputOptions {
  readonly clock: Clock;
  /** DATA that the peer has sent on the stream so far, in bytes. */
  readonly receivedBytes: () => number;
  /** More may be taken, after `drop` said no. */
  readonly goOn: () => void;
  /** The local end goes on writing: it is to fail. Comes instead of `goOn`. */
  readonly giveUp: () => void;
}

/** Counts what is dropped for one stream, from the peer's STOP on. */
export class UnreadOutput {
  readonly #options: UnreadOutputOptions;
  /** What may still be dropped, without what the peer has sent on the stream since it began, in bytes. */
  #leftBytes: number;
  #cancelLook: CancelTimer | null = null;

  constructor(options: UnreadOutputOptions) {
    this.#options = options;
    this.#leftBytes = DROPPED_BYTES - options.receivedBytes();
  }

  /** Counts bytes that were dropped. False: no more may be taken, until `goOn`. */
  drop(bytes: number): boolean {
    this.#leftBytes -= bytes;
    if (this.#hasRoom) return true;
    this.#look(LOOK_MS);
    return false;
  }

  /** The local end is gone: neither `goOn` nor `giveUp` follows. */
  stop(): void {
    this.#cancelLook?.();
  }

  get #hasRoom(): boolean {
    return this.#leftBytes + this.#options.receivedBytes() > 0;
  }

  #look(waitedMs: number): void {
    const { clock, goOn, giveUp } = this.#options;
    this.#cancelLook?.();
    this.#cancelLook = clock.schedule(LOOK_MS, () => {
      if (this.#hasRoom) goOn();
      else if (waitedMs >= GIVE_UP_MS) giveUp();
      else this.#look(waitedMs + LOOK_MS);
    });
  }
}
