/** The local end of a stream, as the stream calls it: a forward's splice, or a MuxStream. */
import type { VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';

/** What a stream calls for what it brings. None of these methods may throw. */
export interface LocalEnd {
  /** The peer accepted the stream. Called on the opener's side only. */
  handleAccept(): void;

  /**
   * Bytes came from the peer. They are lent for the time of the call, unless true is returned. What left this side has
   * to be reported with `SessionStream.release`, now or later.
   */
  handleData(bytes: Buffer): boolean;

  /** The peer sends no more. */
  handleFin(): void;

  /** The peer reads no more: nothing further can be sent, and the stream's direction has been closed with FIN. */
  handleStop(reason: VproxyError): void;

  /** What waited has been sent; with it the FIN that was asked for. `isFree`: the buffer is the sink's again. */
  handleSent(isFree: boolean): void;

  /** The stream is over, called exactly once: null when both directions ended in order, else why it was torn down. */
  handleEnd(reason: VproxyError | null): void;

  /**
   * What came and was not released, in order, as views: the bytes that another local end is given in place of this one, where
   * the stream is handed over before it was answered. Without it such a stream can be handed over only while it holds nothing.
   */
  listHeld?(): readonly Buffer[];
}

/** What a stream may wait for, for people who ask why nothing moves. */
export const STREAM_WAITS = ['answer', 'channel', 'peer', 'session', 'local'] as const;

/**
 * `answer`: the stream is not accepted yet. `channel`: bytes wait for their turn in the channel. `peer`: bytes wait
 * because the program at the other end does not read. `session`: they wait for credit of the session. `local`: bytes
 * that came wait for the program on this side to read.
 */
export type StreamWait = (typeof STREAM_WAITS)[number];

/**
 * This much is dropped, and besides as much as the peer sends from then on: a program may end what it is writing before it
 * reads its answer, or answer each piece of what it gets. A peer that sends nothing makes this side read no more than that.
 */
const DROPPED_BYTES = 262_144;

/** Beyond that nothing is taken; when the peer has not sent enough by then, the local end fails. */
export const GIVE_UP_MS = 10_000;
const LOOK_MS = 1000;

interface UnreadOutputOptions {
  readonly clock: Clock;
  /** What may be dropped besides what the peer sends, in bytes. Default 262,144. */
  readonly leftBytes?: number;
  /** DATA that the peer has sent on the stream so far, in bytes. */
  readonly receivedBytes: () => number;
  /** More may be taken, after `drop` said no. */
  readonly goOn: () => void;
  /** The local end goes on writing: it is to fail. Comes instead of `goOn`. */
  readonly giveUp: () => void;
}

/** What a local end still writes when the peer reads no more is dropped, within bounds of work and of time (R-STREAM-9): counted from the STOP on. */
export class UnreadOutput {
  readonly #options: UnreadOutputOptions;
  /** What may still be dropped, without what the peer has sent on the stream since it began, in bytes. */
  #leftBytes: number;
  #cancelLook: CancelTimer | null = null;

  constructor(options: UnreadOutputOptions) {
    this.#options = options;
    this.#leftBytes = (options.leftBytes ?? DROPPED_BYTES) - options.receivedBytes();
  }

  /** What may still be dropped now, in bytes; 0 or less: nothing. */
  get leftBytes(): number {
    return this.#leftBytes + this.#options.receivedBytes();
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
    return this.leftBytes > 0;
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
