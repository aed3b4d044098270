/**
 * Node handles beyond the public API.
 *
 * A socket over a character device: `net.Socket({ fd })` refuses those, but the handle below it, which Node uses for unix
 * sockets, works with any descriptor that epoll accepts. No other module knows about it.
 */

import net from 'node:net';
import { orElse } from '../util/or-else.js';
import type { OnRead } from './sockets/node-sockets.js';

/** Node's handle for a descriptor that epoll accepts. */
export interface PipeHandle {
  /** Returns zero, or a negative errno. */
  open(fd: number): number;
  /** Whether its socket is reading. */
  readonly reading: boolean;
  /** Missing or negative if closed, or if Node's internals differ from what is expected. */
  readonly fd?: number;
  readStart(): number;
  readStop(): number;
}

/**
 * A handle for `fd`, which must be non-blocking and not a regular file (epoll would abort the process), and which it owns from
 * now on. Null if this version of Node has no such handle; the caller then still owns `fd`.
 */
export function openPipeHandle(fd: number): PipeHandle | null {
  Pipe ??= constructorOfServer() ?? constructorOfBinding();
  if (Pipe === null) return null;
  const handle = new Pipe(SOCKET_TYPE);
  return handle.open(fd) === 0 ? handle : null;
}

/** A socket over a handle, read through `onread`; it starts reading at once. */
export function pipeSocket(handle: PipeHandle, onread: OnRead): net.Socket {
  const options: net.SocketConstructorOpts & { handle: PipeHandle; onread: OnRead } = {
    handle,
    onread,
    readable: true,
    writable: true,
    allowHalfOpen: true,
  };
  return new net.Socket(options);
}

/** Makes epoll poll the descriptor of an open handle again; whether its socket reads does not change. */
export function pollAgain(handle: PipeHandle): void {
  if (handle.reading) {
    handle.readStop();
    handle.readStart();
  } else {
    handle.readStart();
    handle.readStop();
  }
}

type PipeConstructor = new (type: number) => PipeHandle;

let Pipe: PipeConstructor | null = null;

/** `constants.SOCKET` of Node's `pipe_wrap`: neither a server nor a channel for descriptors. */
const SOCKET_TYPE = 0;

/** A server on an abstract unix socket has such a handle; this avoids a deprecated function. */
function constructorOfServer(): PipeConstructor | null {
  const server: net.Server & { _handle?: unknown } = net.createServer();
  server.on('error', () => undefined);
  server.listen({ path: `\0vproxy-${process.pid}-${Math.random()}` });
  const handle = server._handle;
  server.close();
  return typeof handle === 'object' && handle !== null ? asPipeConstructor(handle.constructor) : null;
}

function constructorOfBinding(): PipeConstructor | null {
  const { binding } = process as { binding?: (name: string) => { readonly Pipe?: unknown } };
  return orElse(null, () => asPipeConstructor(binding?.('pipe_wrap').Pipe));
}

function asPipeConstructor(value: unknown): PipeConstructor | null {
  if (typeof value !== 'function') return null;
  const prototype: unknown = value.prototype;
  const isPipe = typeof prototype === 'object' && prototype !== null && 'open' in prototype;
  return isPipe ? (value as PipeConstructor) : null;
}

// Waiting for a descriptor that something else reads.

/** The internals of a handle used for waiting. */
interface Waiting extends PipeHandle {
  close(): void;
  useUserBuffer(buffer: Uint8Array): void;
  onread: () => void;
}

/** Makes the event loop wait until a descriptor is readable, without reading it. */
export class ReadableHandle {
  readonly #handle: Waiting;
  #isClosed = false;

  /**
   * Takes ownership of `handle`. Calls `onReadable` while there is something to read: libuv asks for a buffer, gets none, and
   * calls back without having read (decision 0028).
   */
  constructor(handle: PipeHandle, onReadable: () => void) {
    this.#handle = handle as Waiting;
    this.#handle.onread = () => {
      if (!this.#isClosed) onReadable();
    };
    this.#handle.useUserBuffer(new Uint8Array(0));
    this.#handle.readStart();
  }

  /** Also closes the descriptor. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#handle.close();
  }
}

// Accepting connections on a Node handle, for socket families that `net.Server` does not support.

interface ListeningHandlers {
  /** A connection; the callee owns its handle. */
  readonly onAccepted: (handle: PipeHandle) => void;
  /** Accepting failed with this negative errno, and the handle is closed. */
  readonly onFailed: (status: number) => void;
}

/** The internals of a handle used for listening. */
interface Internals extends PipeHandle {
  listen(backlog: number): number;
  close(): void;
  onconnection: (status: number, accepted?: PipeHandle) => void;
}

/** Listens on a bound descriptor, or one that already listens; the event loop waits for connections, without polling. */
export class ListeningHandle {
  readonly #handle: Internals;
  #isClosed = false;

  /** Takes ownership of `handle`. */
  constructor(handle: PipeHandle, handlers: ListeningHandlers) {
    this.#handle = handle as Internals;
    this.#handle.onconnection = (status, accepted) => {
      if (this.#isClosed) return;
      if (accepted !== undefined) {
        handlers.onAccepted(accepted);
      } else {
        this.close();
        handlers.onFailed(status);
      }
    };
  }

  /** Its descriptor; null if it is closed, or Node's internals differ from what is expected. */
  get fd(): number | null {
    const { fd } = this.#handle;
    return this.#isClosed || fd === undefined || fd < 0 ? null : fd;
  }

  /** Returns zero, or a negative errno after closing the handle. */
  listen(backlog: number): number {
    const status = this.#handle.listen(backlog);
    if (status < 0) this.close();
    return status;
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#handle.close();
  }
}
