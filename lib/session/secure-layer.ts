/** What may stand between a channel and the sessions on it, once both sides have agreed to it (R-AUTH-3). */
import type { VproxyError } from '../errors.js';
import type { Agreement } from './agreement.js';
import type { ByteSink } from './byte-sink.js';

/** Protects bytes on their way through a channel. */
export interface SecureLayer {
  /** Bytes came from the channel, lent for the time of the call. */
  receive(chunk: Buffer): void;
  /** The channel has written all that it was given. */
  handleDrain(): void;
  /**
   * Ends it in order: calls back when all that `sink` was given is with the channel, or cannot get there any more, maybe
   * more than once. The handler is not called any more; `handleDrain` still has to be.
   */
  close(onClosed: () => void): void;
  /** Ends it without a word. The handler is not called any more. */
  destroy(): void;
}

/** Whom a layer calls. */
export interface SecureLayerHandler {
  /** The layer stands: `sink` takes the bytes that are to be protected. Called at most once, and before `onBytes`. */
  onReady(sink: ByteSink): void;
  /** Bytes that came, and were sent by the peer as they are. True when they were kept. */
  onBytes(bytes: Buffer): boolean;
  /** Everything that `sink` was given has been handed to the channel. */
  onDrain(): void;
  /** It is over, with the bytes of the channel that were none of its own; called at most once. */
  onFailed(reason: VproxyError, rest: Buffer): void;
}

/** Makes a layer on a channel, for one session. Throws `auth-failed` or `bad-file` where it cannot. */
export type SecureLayerFactory = (agreement: Agreement, channel: ByteSink, handler: SecureLayerHandler) => SecureLayer;
