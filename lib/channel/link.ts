/** A link: a channel while it is open, as a pipe of bytes that is read for a handler and written to. */
import type { VproxyError } from '../errors.js';
import type { ByteSink } from '../session/byte-sink.js';

/** Whom a link calls. */
export interface LinkHandler {
  /**
   * Bytes came. They are lent for the time of the call: the buffer is filled anew afterwards, unless the handler
   * returns true, which makes the buffer the handler's for good.
   */
  onBytes(bytes: Buffer): boolean;

  /** Everything that was handed over has been written: `unwrittenBytes` fell to 0. */
  onDrain(): void;

  /**
   * The link is gone; called exactly once after `start`, and nothing else is called afterwards. An end that was asked
   * for with `close` or `destroy` has the code `shutdown`; the other side's orderly end has `channel-closed`.
   */
  onClosed(reason: VproxyError): void;
}

/** An open channel. It owns its file descriptor. */
export interface Link extends ByteSink {
  /** What it leads to, for people: `unix-connect:/run/vm1.sock`. */
  readonly description: string;

  /** The machine at its other end, where the channel is one on which several can connect and tells them apart. */
  readonly origin?: string | undefined;

  /** Begins to read. Called once. */
  start(handler: LinkHandler): void;

  /**
   * Reads no further until `resume`. Called from within `onBytes`, by a handler that needs another turn of the event loop
   * for what it has; nothing else may pause reading (docs/protocol.md, R-FLOW-1).
   */
  pause(): void;

  /** Reads on, in a later turn than `pause`. Harmless when the link is gone. */
  resume(): void;

  /** Writes what is queued, for at most `timeoutMs` (default 500), then closes. */
  close(timeoutMs?: number): void;

  /** Closes at once and drops what is queued. */
  destroy(): void;
}
