/** The local end of a stream, as the stream calls it: a forward's splice, or a MuxStream. */
import type { VproxyError } from '../errors.js';

/** Whoever owns the local end of a stream. None of these methods may throw. */
export interface StreamSink {
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
}
