/**
 * Sockets of Node beyond its public API: their reading, their ends, what is unwritten of them, and their first line.
 *
 * Reading a socket into the caller's own buffers, as `net.connect({ onread })` does for a connecting one. Node has no public
 * `onread` for sockets that a server accepts, nor for TLS over a stream; this is the only place that reaches around that.
 */

import { readSync, writeSync } from 'node:fs';
import net from 'node:net';
import { systemCode } from '../../errors.js';

/**
 * What a socket is read with: `buffer` is called once at the start and after every `callback`, and gives the
 * memory for the next read; `callback` is told how many bytes were put at its start, and pauses the socket by
 * returning false, until `resume()`.
 */
export interface OnRead {
  buffer(): Uint8Array;
  callback(byteCount: number, buffer: Uint8Array): boolean;
}

/**
 * Makes `socket`, with a handle, read into the buffers of `onread` from now on, and begin; call `pause()` in the same turn to
 * begin later. It emits no `data`, and otherwise stays what it is. What it holds already comes first; while that comes
 * `callback` does not pause it. The same socket comes back.
 *
 * Without the internals of Node that this needs the bytes are copied into the buffers.
 */
export function readBuffered(socket: net.Socket, onread: OnRead): net.Socket {
  const { _handle: handle } = socket as Internals;
  const keys = readKeysOf(socket);
  if (!canReadInto(handle) || keys === null) return copyIntoBuffers(socket, onread);
  let room = onread.buffer();
  for (let held = socket.read() as Buffer | null; held !== null; held = socket.read() as Buffer | null) {
    for (let offset = 0; offset < held.length; room = onread.buffer()) {
      const count = Math.min(held.length - offset, room.length);
      room.set(held.subarray(offset, offset + count));
      offset += count;
      onread.callback(count, room);
    }
  }
  const insides = socket as unknown as Record<symbol, unknown>;
  insides[keys.buffer] = room;
  insides[keys.callback] = onread.callback.bind(onread);
  insides[keys.generator] = onread.buffer.bind(onread);
  handle.useUserBuffer(room);
  return socket.resume();
}

/** The fallback of {@link readBuffered}, with the same contract. */
export function copyIntoBuffers(socket: net.Socket, onread: OnRead): net.Socket {
  let buffer = onread.buffer();
  socket.on('data', (chunk: Buffer) => {
    let offset = 0;
    while (offset < chunk.length && !socket.destroyed) {
      const count = Math.min(chunk.length - offset, buffer.length);
      buffer.set(chunk.subarray(offset, offset + count));
      offset += count;
      const goesOn = onread.callback(count, buffer);
      buffer = onread.buffer();
      if (goesOn) continue;
      socket.pause();
      if (offset < chunk.length) socket.unshift(chunk.subarray(offset));
      return;
    }
  });
  return socket.resume();
}

/** What is used of a socket's insides. */
interface Internals {
  _handle?: unknown;
}

interface ReadableHandle {
  useUserBuffer(room: Uint8Array): void;
}

const canReadInto = (handle: unknown): handle is ReadableHandle =>
  typeof handle === 'object' && handle !== null && 'useUserBuffer' in handle;

/** The properties of a socket that its buffers are in: the same for all, and looked for in the first. */
interface ReadKeys {
  readonly buffer: symbol;
  readonly callback: symbol;
  readonly generator: symbol;
}

let readKeys: ReadKeys | null = null;

/** Null where Node is not made as expected. */
function readKeysOf(socket: net.Socket): ReadKeys | null {
  if (readKeys !== null) return readKeys;
  const [buffer, callback, generator] = ['kBuffer', 'kBufferCb', 'kBufferGen'].map((name) =>
    Object.getOwnPropertySymbols(socket).find(({ description }) => description === name),
  );
  if (buffer === undefined || callback === undefined || generator === undefined) return null;
  readKeys = { buffer, callback, generator };
  return readKeys;
}

// Tells the end of a socket from a reset, or a close, that looks like one.

/**
 * The error behind an `end` that a socket has just emitted, or null where its peer ended it in order. Where a reset comes
 * close behind the last bytes, libuv takes the hang-up for an end and never asks for the error; it is still there for
 * the next read. To be called from a listener of `end`, with `allowHalfOpen`; without the descriptor, null.
 */
export function hiddenReset(socket: net.Socket): Error | null {
  const fd = descriptorOf(socket);
  if (fd === null) return null;
  try {
    readSync(fd, ONE_BYTE);
    return null;
  } catch (error) {
    return error instanceof Error && systemCode(error) !== 'EAGAIN' ? error : null;
  }
}

/**
 * Whether the other end of a unix socket was closed, and not only shut down for writing: both are an `end` here. To be
 * called from a listener of `end`, while this side has not ended; false where the system cannot tell.
 */
export function isHungUp(socket: net.Socket): boolean {
  const fd = descriptorOf(socket);
  if (fd === null) return false;
  try {
    writeSync(fd, NO_BYTES);
    return false;
  } catch (error) {
    return systemCode(error) === 'EPIPE';
  }
}

/** The descriptor of a socket, or of a server that listens; null where it has none any more, or Node is not made as expected. */
export function descriptorOf({
  _handle: handle,
}: (net.Socket | net.Server) & { readonly _handle?: unknown }): number | null {
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return null;
  return typeof handle.fd === 'number' && handle.fd >= 0 ? handle.fd : null;
}

const NO_BYTES = new Uint8Array(0);

// Handing a socket over to a successor: what the system has not taken of it yet, and the socket made again.

/** The counts of a handle of Node: what it was given, and what of that the system has not taken. */
interface CountingHandle {
  readonly bytesWritten: number;
  readonly writeQueueSize: number;
}

const counts = (handle: unknown): handle is CountingHandle =>
  typeof handle === 'object' &&
  handle !== null &&
  'bytesWritten' in handle &&
  typeof handle.bytesWritten === 'number' &&
  'writeQueueSize' in handle &&
  typeof handle.writeQueueSize === 'number';

/**
 * How many of the bytes that were written to a socket the system has not taken: they are the last ones. Null where Node is
 * not made as expected, or the socket is closed.
 */
export function unwrittenBytesOf(socket: net.Socket & Internals): number | null {
  const { _handle: handle, bytesWritten } = socket;
  if (!counts(handle)) return null;
  const unwritten = bytesWritten - (handle.bytesWritten - handle.writeQueueSize);
  return unwritten >= 0 ? unwritten : null;
}

/** How a socket is made of the descriptor of another process. */
export interface AdoptOptions {
  /** Default: it is read as Node does it, or by {@link readBuffered}. */
  readonly onread?: OnRead;
  /** Whether it can still be read, and written. Default true. */
  readonly readable?: boolean;
  readonly writable?: boolean;
}

/**
 * A socket over the descriptor of one that is connected, of TCP or of a unix socket, or of a FIFO; it owns it. It is paused, with
 * `allowHalfOpen`, and reads nothing before `resume()`. Throws for another kind of descriptor.
 */
export function adoptSocket(fd: number, { onread, readable = true, writable = true }: AdoptOptions = {}): net.Socket {
  const options: net.SocketConstructorOpts & { onread?: OnRead; pauseOnCreate: boolean } = {
    fd,
    readable,
    writable,
    allowHalfOpen: true,
    // What a server does that has `pauseOnConnect`.
    pauseOnCreate: true,
    ...(onread && { onread }),
  };
  return new net.Socket(options).pause();
}

/** Behind an end nothing comes: no byte is ever put here. */
const ONE_BYTE = new Uint8Array(1);

// Ending a socket so that its peer sees that something went wrong.

/**
 * Destroys a socket: on TCP with a reset (RST), elsewhere as `destroy()` does. Also right after `end()`, when
 * `resetAndDestroy()` would fail with EINVAL and leak the descriptor, because the system is still shutting it down.
 * It may be connected already without Node having seen it: then the other end would take a mere end for one in order.
 */
export function resetSocket(socket: net.Socket): void {
  if (socket.destroyed) return;
  const isConnectedTcp = socket.remoteFamily !== undefined;
  if (socket.connecting) resetConnecting(socket);
  else if (!isConnectedTcp) socket.destroy();
  else if (socket.writableEnded && socket.writableLength === 0 && !socket.writableFinished) {
    socket.once('finish', () => socket.resetAndDestroy());
  } else socket.resetAndDestroy();
}

/** What is used of a socket's insides: `resetAndDestroy()` would wait for the connection first, however long that takes. */
interface ResetInternals {
  _reset?(): void;
  readonly _handle?: { readonly fd?: number; readonly reset?: unknown } | null;
}

function resetConnecting(socket: net.Socket & ResetInternals): void {
  const handle = socket._handle;
  const hasBegun = typeof handle?.fd === 'number' && handle.fd >= 0;
  if (hasBegun && 'reset' in handle && socket._reset !== undefined) socket._reset();
  else socket.destroy();
}

// One line at the start of a socket, read before the bytes behind it go to the one that the line was for.

/**
 * Reads a socket up to its first newline, and everything behind it for another reader, without losing or copying more
 * than what came along with the line. The socket pauses at the end of the line until `handOver`.
 */
export class FirstLine {
  /** What the socket is read with, from its start to its end. */
  readonly onread: OnRead = {
    buffer: () => this.#room(),
    callback: (byteCount, buffer) => this.#take(byteCount, buffer),
  };
  readonly #onLine: (line: string | null) => boolean;
  #buffer: Buffer;
  #byteCount = 0;
  #isRead = false;
  /** Bytes behind the line that came before the next reader. */
  #rest: Buffer = Buffer.alloc(0);
  #next: OnRead | null = null;
  /** Who gives the room for the read that is under way; null: this one. */
  #roomOf: OnRead | null = null;

  /**
   * `onLine` is called once: with the line (latin1, without its newline), or with null when `maxBytes` held none. It
   * returns whether the socket is read on at once, as `handOver` says; false pauses it.
   */
  constructor(maxBytes: number, onLine: (line: string | null) => boolean) {
    this.#buffer = Buffer.alloc(maxBytes);
    this.#onLine = onLine;
  }

  /** What came behind the line up to now; the caller's from now on, for where `next` shall not get it. */
  takeRest(): Buffer {
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    return rest;
  }

  /** Gives `next` what came behind the line, and all that follows. False when it wants to be resumed later. */
  handOver(next: OnRead): boolean {
    this.#next = next;
    return this.#deliver(this.takeRest());
  }

  #room(): Uint8Array {
    this.#roomOf = this.#next;
    if (this.#next !== null) return this.#next.buffer();
    if (!this.#isRead) return this.#buffer.subarray(this.#byteCount);
    // A read may be under way already; its bytes are given to the next reader.
    this.#buffer = Buffer.alloc(this.#buffer.length);
    return this.#buffer;
  }

  #take(byteCount: number, buffer: Uint8Array): boolean {
    if (this.#isRead) {
      if (this.#roomOf !== null) return this.#roomOf.callback(byteCount, buffer);
      const bytes = Buffer.from(buffer.subarray(0, byteCount));
      if (this.#next !== null) return this.#deliver(bytes);
      this.#rest = Buffer.concat([this.#rest, bytes]);
      return false;
    }
    this.#byteCount += byteCount;
    const end = this.#buffer.subarray(0, this.#byteCount).indexOf('\n');
    if (end === -1 && this.#byteCount < this.#buffer.length) return true;
    this.#isRead = true;
    if (end === -1) return this.#onLine(null);
    this.#rest = this.#buffer.subarray(end + 1, this.#byteCount);
    return this.#onLine(this.#buffer.toString('latin1', 0, end));
  }

  #deliver(bytes: Buffer): boolean {
    let isWanted = true;
    for (let offset = 0; offset < bytes.length; ) {
      const room = this.#next?.buffer() ?? new Uint8Array(bytes.length);
      const count = Math.min(room.length, bytes.length - offset);
      room.set(bytes.subarray(offset, offset + count));
      offset += count;
      isWanted = this.#next?.callback(count, room) ?? true;
    }
    return isWanted;
  }
}
