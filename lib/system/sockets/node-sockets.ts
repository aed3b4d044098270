/**
 * Sockets of Node beyond its public API: reading, hidden resets, unwritten bytes, and a first line.
 *
 * Reads a socket into the caller's buffers, as `net.connect({ onread })` does for a connecting one. Node has no public `onread`
 * for accepted sockets, nor for TLS over a stream; no other module works around that.
 */

import { readSync, writeSync } from 'node:fs';
import net from 'node:net';
import type { Readable } from 'node:stream';
import { systemCode } from '../../errors.js';

/**
 * How a socket is read: `buffer` is called at the start and after every `callback`, and returns the memory for the next read;
 * `callback` receives the number of bytes read into its start, and pauses the socket until `resume()` by returning false.
 */
export interface OnRead {
  buffer(): Uint8Array;
  callback(byteCount: number, buffer: Uint8Array): boolean;
}

/**
 * Makes `socket` read into the buffers of `onread` from now on; call `pause()` in the same turn to start later. It emits no
 * `data`, and is otherwise unchanged. Bytes already buffered come first, during which `callback` cannot pause it. Returns the
 * same socket.
 *
 * Without the Node internals that this needs, as for any other stream, the bytes are copied into the buffers.
 */
export function readBuffered<Source extends Readable>(socket: Source, onread: OnRead): Source {
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
  const [buffer, callback, generator] = keys;
  insides[buffer] = room;
  insides[callback] = onread.callback.bind(onread);
  insides[generator] = onread.buffer.bind(onread);
  handle.useUserBuffer(room);
  return socket.resume();
}

/** The fallback of {@link readBuffered}, with the same contract. */
export function copyIntoBuffers<Source extends Readable>(socket: Source, onread: OnRead): Source {
  let buffer = onread.buffer();
  socket.on('data', (chunk: Buffer) => {
    let offset = 0;
    while (offset < chunk.length && !socket.destroyed) {
      const count = Math.min(chunk.length - offset, buffer.length);
      buffer.set(chunk.subarray(offset, offset + count));
      offset += count;
      const wantsMore = onread.callback(count, buffer);
      buffer = onread.buffer();
      if (wantsMore) continue;
      socket.pause();
      if (offset < chunk.length) socket.unshift(chunk.subarray(offset));
      return;
    }
  });
  return socket.resume();
}

interface Internals {
  _handle?: unknown;
}

interface ReadableHandle {
  useUserBuffer(room: Uint8Array): void;
}

const canReadInto = (handle: unknown): handle is ReadableHandle =>
  typeof handle === 'object' && handle !== null && 'useUserBuffer' in handle;

/** The names of a socket's properties for its buffer, and for the two callbacks of `onread`. */
const READ_NAMES = ['kBuffer', 'kBufferCb', 'kBufferGen'];

/** Their symbols: the same for all sockets, found in the first one. */
type ReadKeys = readonly [buffer: symbol, callback: symbol, generator: symbol];

let readKeys: ReadKeys | null = null;

/** Null if Node's internals differ from what is expected. */
function readKeysOf(socket: Readable): ReadKeys | null {
  if (readKeys !== null) return readKeys;
  const symbols = Object.getOwnPropertySymbols(socket);
  const found = READ_NAMES.map((name) => symbols.find(({ description }) => description === name));
  if (!found.includes(undefined)) readKeys = found as readonly unknown[] as ReadKeys;
  return readKeys;
}

// Telling the end of a socket from a reset, or from a close.

/**
 * The error behind an `end` just emitted by a socket, or null if its peer ended it cleanly. If a reset arrives right after the
 * last bytes, libuv takes the hang-up for EOF and never asks for the error; the next read still returns it. Call it from a
 * listener of `end`, with `allowHalfOpen`; null without a descriptor.
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

/** What a TCP socket still holds, up to 64 KiB; null if nothing. The system keeps it if a write fails. */
export function readLeft(socket: net.Socket): Buffer | null {
  const fd = descriptorOf(socket);
  if (fd === null) return null;
  const bytes = Buffer.alloc(65_536);
  try {
    const count = readSync(fd, bytes);
    return count === 0 ? null : bytes.subarray(0, count);
  } catch {
    return null;
  }
}

/**
 * Whether the other end of a unix socket was closed, not just shut down for writing: both emit `end`. Call it from a listener of
 * `end`, before this side has ended; false if the system cannot tell.
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

/** The descriptor of a socket or a listening server; null if it is closed, or Node's internals differ from what is expected. */
export function descriptorOf({
  _handle: handle,
}: (net.Socket | net.Server) & { readonly _handle?: unknown }): number | null {
  if (typeof handle !== 'object' || handle === null || !('fd' in handle)) return null;
  return typeof handle.fd === 'number' && handle.fd >= 0 ? handle.fd : null;
}

const NO_BYTES = new Uint8Array(0);

// Handing a socket to a successor: its unwritten bytes, and recreating it.

/** The counters of a Node handle: bytes accepted, and those that the system has not taken yet. */
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

/** How many of the last bytes written the system has not taken; null if closed, or Node's internals differ. */
export function unwrittenBytesOf(socket: net.Socket & Internals): number | null {
  const { _handle: handle, bytesWritten } = socket;
  if (!counts(handle)) return null;
  const unwritten = bytesWritten - (handle.bytesWritten - handle.writeQueueSize);
  return unwritten >= 0 ? unwritten : null;
}

/** Options for a socket over another process's descriptor. */
export interface AdoptOptions {
  /** Default: read by Node as usual, or by {@link readBuffered}. */
  readonly onread?: OnRead | undefined;
  /** Whether it is still readable and writable. Default true. */
  readonly readable?: boolean;
  readonly writable?: boolean;
}

/**
 * A socket over the descriptor of a connected TCP or unix socket, or of a FIFO, which it owns. It is paused, with
 * `allowHalfOpen`, and reads nothing before `resume()`. Throws for any other kind of descriptor.
 */
export function adoptSocket(fd: number, { onread, readable = true, writable = true }: AdoptOptions = {}): net.Socket {
  const options: net.SocketConstructorOpts & { onread: OnRead | undefined; pauseOnCreate: boolean } = {
    fd,
    readable,
    writable,
    allowHalfOpen: true,
    // As a server does with `pauseOnConnect`.
    pauseOnCreate: true,
    onread,
  };
  return new net.Socket(options).pause();
}

/** Never filled: nothing follows EOF. */
const ONE_BYTE = new Uint8Array(1);

// Ending a socket so that its peer sees an error.

/**
 * Destroys a socket: on TCP with a reset (RST), elsewhere like `destroy()`. Also works right after `end()`, when
 * `resetAndDestroy()` would fail with EINVAL and leak the descriptor because the shutdown is still in progress. A connecting
 * socket may be connected before Node notices; a plain close would then look like a clean end to the peer.
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

/** The internals used here: `resetAndDestroy()` would first wait for the connection, however long that takes. */
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

// A first line on a socket, read before the bytes after it go to their reader.

/**
 * Reads a socket up to its first newline, and everything after it for another reader, without losing bytes or copying more than
 * what arrived with the line. The socket pauses after the line until `handOver`.
 */
export class FirstLine {
  /** How to read the socket, from start to end. */
  readonly onread: OnRead = {
    buffer: () => this.#room(),
    callback: (byteCount, buffer) => this.#handleRead(byteCount, buffer),
  };
  readonly #onLine: (line: string | null) => boolean;
  #buffer: Buffer;
  #byteCount = 0;
  #isRead = false;
  /** Bytes after the line that arrived before the next reader. */
  #rest: Buffer = Buffer.alloc(0);
  #next: OnRead | null = null;
  /** The owner of the buffer for the read in progress; null: this object. */
  #roomOf: OnRead | null = null;

  /**
   * Calls `onLine` once: with the line (latin1, without its newline), or null if there is none in `maxBytes`. It returns whether
   * to read on at once, as `handOver` does; false pauses the socket.
   */
  constructor(maxBytes: number, onLine: (line: string | null) => boolean) {
    this.#buffer = Buffer.alloc(maxBytes);
    this.#onLine = onLine;
  }

  /** Takes the bytes received after the line so far, if `next` must not get them; the caller owns them. */
  takeRest(): Buffer {
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    return rest;
  }

  /** Passes `next` the bytes after the line, and everything that follows. False if it wants to be resumed later. */
  handOver(next: OnRead): boolean {
    this.#next = next;
    return this.#deliver(this.takeRest());
  }

  #room(): Uint8Array {
    this.#roomOf = this.#next;
    if (this.#next !== null) return this.#next.buffer();
    if (!this.#isRead) return this.#buffer.subarray(this.#byteCount);
    // A read may be in progress; its bytes go to the next reader.
    this.#buffer = Buffer.alloc(this.#buffer.length);
    return this.#buffer;
  }

  #handleRead(byteCount: number, buffer: Uint8Array): boolean {
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
