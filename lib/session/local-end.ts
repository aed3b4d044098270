/** The local end of a stream: a forward's splice, or a MuxStream. */
import type { VproxyError } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';

/** The callbacks of a stream. None of these methods may throw. */
export interface LocalEnd {
  /** The peer accepted the stream. Only for streams that this side opens. */
  handleAccept?(): void;

  /**
   * Bytes came from the peer. They are lent for the duration of the call, unless true is returned. Report bytes that have
   * left this side with `SessionStream.release`, now or later.
   */
  handleData(bytes: Buffer): boolean;

  /** The peer sends no more. */
  handleFin(): void;

  /** The peer reads no more: nothing further can be sent, and the stream's direction has been closed with FIN. */
  handleStop(reason: VproxyError): void;

  /** The waiting bytes have been sent, and the FIN if one was requested. `isFree`: the buffer is the caller's again. */
  handleSent(isFree: boolean): void;

  /** The stream is over; called exactly once: null when both directions ended in order, else why it was torn down. */
  handleEnd(reason: VproxyError | null): void;

  /**
   * Lists received bytes that were not released, in order, as views: they go to the local end that replaces this one if
   * the stream is handed over unanswered. Without this method, such a stream can be handed over only while it holds nothing.
   */
  listHeld?(): readonly Buffer[];
}

/** The things a stream may wait for, to explain why nothing moves. */
export const STREAM_WAITS = ['answer', 'channel', 'peer', 'session', 'local'] as const;

/**
 * The reason why a stream waits. `answer`: it has not been accepted yet. `channel`: bytes wait for their turn in the channel.
 * `peer`: bytes wait because the program at the other end does not read. `session`: they wait for credit of the session.
 * `local`: received bytes wait for the program on this side to read.
 */
export type StreamWait = (typeof STREAM_WAITS)[number];

/**
 * Dropped at most, in addition to as many bytes as the peer sends from then on: a program may finish writing before it
 * reads its answer, or answer each piece of its input. If the peer sends nothing, this side reads no more than that.
 */
const DROPPED_BYTES = 262_144;

/** How long to wait beyond that limit: if the peer has not sent enough by then, the local end fails. */
export const GIVE_UP_MS = 10_000;
export const LOOK_MS = 1000;

interface UnreadOutputOptions {
  readonly clock: Clock;
  /** The bytes that may be dropped in addition to what the peer sends. Default 262,144. */
  readonly leftBytes?: number;
  /** DATA that the peer has sent on the stream so far, in bytes. */
  readonly receivedBytes: () => number;
  /** Called after `drop` returned false, when more may be read. */
  readonly goOn: () => void;
  /** Called instead of `goOn`: the local end keeps writing and must fail. */
  readonly giveUp: () => void;
}

/** Drops output of a local end after the peer's STOP, within bounds of work and of time (R-STREAM-9). */
export class UnreadOutput {
  readonly #options: UnreadOutputOptions;
  /** The bytes that may still be dropped, without those the peer has sent since the stream began. */
  #leftBytes: number;
  #cancelLook: CancelTimer | null = null;

  constructor(options: UnreadOutputOptions) {
    this.#options = options;
    this.#leftBytes = (options.leftBytes ?? DROPPED_BYTES) - options.receivedBytes();
  }

  /** The bytes that may still be dropped now; 0 or less: none. */
  get leftBytes(): number {
    return this.#leftBytes + this.#options.receivedBytes();
  }

  /** Counts dropped bytes. Returns false if no more may be read, until `goOn`. */
  drop(bytes: number): boolean {
    this.#leftBytes -= bytes;
    if (this.#hasRoom) return true;
    this.#look(LOOK_MS);
    return false;
  }

  /** The local end has closed: neither `goOn` nor `giveUp` follows. */
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
