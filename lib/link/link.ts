/** A link: an open channel as a pipe of bytes, read for a handler and written to; and the errors of opening one. */
import { existsSync } from 'node:fs';
import { dirname } from 'node:path';
import type { ByteSink } from '../codec/frame-writer.js';
import { systemCode, VproxyError } from '../errors.js';
import { remedyFor } from '../remedies.js';
import type { KeepDescriptor } from '../system/descriptors.js';
import { meaningOf } from '../system-errors.js';
import { describeError, escapeText } from '../util/escape.js';

export interface LinkHandler {
  /**
   * Bytes came. They are lent for the duration of the call: the buffer is reused afterwards, unless the handler
   * returns true, which gives it the buffer for good.
   */
  onBytes(bytes: Buffer): boolean;

  /** Whether a stream waits for short messages, so that one read is enough for a turn of the event loop. Default: never. */
  hasInteractive?(): boolean;

  /** Everything handed over has been written: `unwrittenBytes` fell to 0. */
  onDrain(): void;

  /**
   * The link has closed. Called exactly once after `start`; nothing else is called afterwards. A close requested
   * with `close` or `destroy` has the code `shutdown`; an orderly end by the other side has `channel-closed`.
   */
  onClosed(reason: VproxyError): void;
}

/** The state of a link that a successor process needs. */
export interface LinkState {
  readonly description: string;
  /** The numbers of its descriptors: one, or the one to read and the one to write. */
  readonly descriptors: readonly number[];
  /** Written bytes that the system has not taken: they go out first. */
  readonly unwritten: Buffer;
  /** Bytes read but not delivered, owned by the link; null if there are none. */
  readonly firstBytes: Buffer | null;
  /** As in {@link Link}; null if unknown. */
  readonly origin: string | null;
  readonly mayBeStuck: boolean;
  readonly bufferBytes: number | null;
}

/** An open channel. It owns its file descriptor. */
export interface Link extends ByteSink {
  /** Its address, human-readable: `unix-connect:/run/vm1.sock`. */
  readonly description: string;

  /** The number of its descriptor; null or missing if unknown or if it has none. */
  readonly descriptor?: number | null;

  /** The machine at its other end, if several can connect to the channel and it tells them apart. */
  readonly origin?: string | null;

  /**
   * Whether its other end may pass nothing on although it is open, until it is closed: a QEMU 7.2 whose previous vproxy
   * was killed in the middle of a transfer. Default false.
   */
  readonly mayBeStuck?: boolean;

  /** The system's buffer for written bytes; null or missing if it has its default size. */
  readonly bufferBytes?: number | null;

  /** Starts reading. Called once. */
  start(handler: LinkHandler): void;

  /**
   * Stops reading until `resume`. Called from within `onBytes`, by a handler that needs another turn of the event loop
   * for what it has; nothing else may pause reading (docs/protocol.md, R-FLOW-1). Bytes may still come: Node keeps reading the
   * output of a command after the command has exited.
   */
  pause(): void;

  /** Resumes reading, in a later turn than `pause`. No effect on a closed link. */
  resume(): void;

  /**
   * Asks the system to buffer up to `bytes` of what is written, from the first write that does not fit at once. Only for links
   * over unix sockets.
   */
  wantBuffer?(bytes: number): void;

  /** Writes what is queued, for at most `timeoutMs` (default 500), then closes. A later call may shorten the time. */
  close(timeoutMs?: number): void;

  /** Closes at once and drops what is queued. */
  destroy(): void;

  /**
   * The state that a successor needs to continue with the link; changes nothing. Null if it cannot be handed over: it is closing,
   * or it consists of more than descriptors, such as a command. Default: never.
   */
  capture?(keep: KeepDescriptor): LinkState | null;
}

// Errors of opening a channel.

/** The failure of opening `description`: `channel-missing`, `-busy`, `-refused`, `-denied`, `-unusable` or `-failed`. */
export function channelError(description: string, error: unknown): VproxyError {
  if (error instanceof VproxyError) return error;
  const name = systemCode(error);
  const [code, what, subject] = meaningOf(name).channel ?? ['channel-failed', ''];
  const why =
    what === '' ? `: ${describeError(error)}` : `${fileOf(error, description)}${folderOf(error) ?? what} (${name})`;
  const advice = subject === undefined ? '' : `; ${remedyFor(code, subject)}`;
  return new VproxyError(code, `${description}${why}${advice}`, { cause: error });
}

/** The file that the system could not open, unless the description names it. */
function fileOf(error: unknown, description: string): string {
  const path = error instanceof Error && 'path' in error && typeof error.path === 'string' ? error.path : '';
  return path === '' || description.includes(escapeText(path)) ? '' : `: ${escapeText(path)}`;
}

/** For a file in a folder that is missing, too: that this is so. */
function folderOf(error: unknown): string | undefined {
  if (systemCode(error) !== 'ENOENT' || !(error instanceof Error && 'path' in error)) return undefined;
  return existsSync(dirname(String(error.path))) ? undefined : ': its folder does not exist';
}

export function openingCancelled(description: string): VproxyError {
  return new VproxyError('shutdown', `${description}: open cancelled`);
}

/** Throws `shutdown` if the caller has cancelled the open. */
export function requireWanted(signal: AbortSignal, description: string): void {
  if (signal.aborted) throw openingCancelled(description);
}
