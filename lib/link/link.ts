/** A link: a channel while it is open, as a pipe of bytes that is read for a handler and written to; and why it could not be opened. */
import type { ByteSink } from '../codec/frame-writer.js';
import { systemCode, VproxyError } from '../errors.js';
import type { KeepDescriptor } from '../system/descriptors.js';
import { meaningOf } from '../util/errno.js';
import { describeError, escapeText } from '../util/escape.js';

/** What a link calls. */
export interface LinkHandler {
  /**
   * Bytes came. They are lent for the time of the call: the buffer is used again afterwards, unless the handler
   * returns true, which makes the buffer the handler's for good.
   */
  onBytes(bytes: Buffer): boolean;

  /** Whether somebody waits for short messages, so that one read is enough for a turn of the event loop. Default: never. */
  hasInteractive?(): boolean;

  /** Everything that was handed over has been written: `unwrittenBytes` fell to 0. */
  onDrain(): void;

  /**
   * The link is gone; called exactly once after `start`, and nothing else is called afterwards. An end that was asked
   * for with `close` or `destroy` has the code `shutdown`; the other side's orderly end has `channel-closed`.
   */
  onClosed(reason: VproxyError): void;
}

/** What lives on of a link. */
export interface LinkState {
  readonly description: string;
  /** The numbers of its descriptors: one, or that which is read and that which is written. */
  readonly descriptors: readonly number[];
  /** What was written to it and the system has not taken: it goes out before all else. */
  readonly unwritten: Buffer;
  /** What was read of it and not delivered, which the link owns; null where that is nothing. */
  readonly firstBytes: Buffer | null;
  /** As of {@link Link}; null where it is not told. */
  readonly origin: string | null;
  readonly mayBeStuck: boolean;
  readonly bufferBytes: number | null;
}

/** An open channel. It owns its file descriptor. */
export interface Link extends ByteSink {
  /** What it leads to, for people: `unix-connect:/run/vm1.sock`. */
  readonly description: string;

  /** The number of its descriptor, where it has one; null: that is not known. Default: it is not. */
  readonly descriptor?: number | null;

  /** The machine at its other end, where the channel is one on which several can connect and tells them apart. */
  readonly origin?: string | null;

  /**
   * Whether its other end may hand on nothing although it is open, until it is closed: a QEMU 7.2, where the process
   * before was killed in the middle of a transfer. Default false.
   */
  readonly mayBeStuck?: boolean;

  /** How much the system's buffer holds of what is written, in bytes; null or missing where it is as the system made it. */
  readonly bufferBytes?: number | null;

  /** Begins to read. Called once. */
  start(handler: LinkHandler): void;

  /**
   * Reads no further until `resume`. Called from within `onBytes`, by a handler that needs another turn of the event loop
   * for what it has; nothing else may pause reading (docs/protocol.md, R-FLOW-1). Bytes may still come: Node reads on what
   * a command wrote when the command has ended.
   */
  pause(): void;

  /** Reads on, in a later turn than `pause`. Harmless when the link is gone. */
  resume(): void;

  /**
   * Has the system hold up to `bytes` of what is written, from the first write on that does not fit at once. Only a link
   * over a unix socket can.
   */
  wantBuffer?(bytes: number): void;

  /** Writes what is queued, for at most `timeoutMs` (default 500), then closes. */
  close(timeoutMs?: number): void;

  /** Closes at once and drops what is queued. */
  destroy(): void;

  /**
   * What a successor needs to go on with it; changes nothing. Null where it cannot be handed over: it is closing, or more
   * than descriptors belongs to it, such as a command. Default: none can.
   */
  capture?(keep: KeepDescriptor): LinkState | null;
}

// What an error of the system means to the one who opens a channel.

/** The failure of opening `description`: `channel-missing`, `-busy`, `-refused`, `-denied`, `-unusable` or `-failed`. */
export function channelError(description: string, error: unknown): VproxyError {
  if (error instanceof VproxyError) return error;
  const name = systemCode(error);
  const [code, what] = meaningOf(name).channel ?? ['channel-failed', ''];
  const why = what === '' ? `: ${describeError(error)}` : `${fileOf(error, description)}${what} (${name})`;
  return new VproxyError(code, `${description}${why}`, { cause: error });
}

/** The file that the system could not open, where it is not the one that the description names. */
function fileOf(error: unknown, description: string): string {
  const path = error instanceof Error && 'path' in error && typeof error.path === 'string' ? error.path : '';
  return path === '' || description.includes(escapeText(path)) ? '' : `: ${escapeText(path)}`;
}

/** The failure of an opening that its caller gave up. */
export function openingCancelled(description: string): VproxyError {
  return new VproxyError('shutdown', `${description}: opening it was given up`);
}

/** Throws `shutdown` where the caller of an opening gave it up. */
export function requireWanted(signal: AbortSignal, description: string): void {
  if (signal.aborted) throw openingCancelled(description);
}
