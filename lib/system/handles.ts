/**
 * Handles of Node without its public API.
 *
 * A socket over the descriptor of a character device. `net.Socket({ fd })` refuses those, but the handle below it, which
 * Node uses for unix sockets, serves every descriptor that epoll takes. This is the only place that knows about that.
 */
import net from 'node:net';
import type { OnRead } from './sockets/node-sockets.js';

/** Node's handle for a descriptor that epoll takes. */
export interface PipeHandle {
  /** Zero, or a negative number of the system. */
  open(fd: number): number;
  /** Whether its socket reads now. */
  readonly reading: boolean;
  readStart(): number;
  readStop(): number;
}

/**
 * A handle for `fd`, which must be non-blocking and not a regular file (epoll aborts the process on those). It owns `fd`
 * from now on. Null where this version of Node has no such handle; `fd` is then the caller's as before.
 */
export function openPipeHandle(fd: number): PipeHandle | null {
  const Pipe = constructorOfServer() ?? constructorOfBinding();
  if (Pipe === null) return null;
  const handle = new Pipe(SOCKET_TYPE);
  return handle.open(fd) === 0 ? handle : null;
}

/** A socket over a handle, read by `onread`; it reads at once. */
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

/** Has epoll ask the descriptor of an open handle anew what it is ready for; its socket reads, or does not, as before. */
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

/** What `constants.SOCKET` of Node's `pipe_wrap` is: neither a server nor a channel for descriptors. */
const SOCKET_TYPE = 0;

/** The handle of a server on an abstract unix socket is one; this needs no deprecated function. */
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
  try {
    return asPipeConstructor(binding?.('pipe_wrap').Pipe);
  } catch {
    return null;
  }
}

function asPipeConstructor(value: unknown): PipeConstructor | null {
  if (typeof value !== 'function') return null;
  const prototype: unknown = value.prototype;
  const isPipe = typeof prototype === 'object' && prototype !== null && 'open' in prototype;
  return isPipe ? (value as PipeConstructor) : null;
}

// Waiting for a descriptor that something else reads.

/** What of a handle is used to wait. */
interface Waiting extends PipeHandle {
  close(): void;
  useUserBuffer(buffer: Uint8Array): void;
  onread: () => void;
}

/** Has the event loop wait until a descriptor can be read, and reads nothing itself. */
export class ReadableHandle {
  readonly #handle: Waiting;
  #isClosed = false;

  /**
   * `handle` is owned from now on. `onReadable` is called for as long as there is something to read: libuv asks for room to read
   * into, gets none, and calls back without having read (decision 0028).
   */
  constructor(handle: PipeHandle, onReadable: () => void) {
    this.#handle = handle as Waiting;
    this.#handle.onread = () => {
      if (!this.#isClosed) onReadable();
    };
    this.#handle.useUserBuffer(new Uint8Array(0));
    this.#handle.readStart();
  }

  /** Closes the descriptor, too. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#handle.close();
  }
}

// Accepting connections on a handle of Node, for a family of sockets that `net.Server` does not take.

/** Whom a listening handle calls. */
interface ListeningHandlers {
  /** A connection; its handle is the callee's. */
  readonly onAccepted: (handle: PipeHandle) => void;
  /** Accepting failed with this (negative) number of the system, and the handle is closed. */
  readonly onFailed: (status: number) => void;
}

/** What of a handle is used to listen. */
interface Internals extends PipeHandle {
  readonly fd?: number;
  listen(backlog: number): number;
  close(): void;
  onconnection: (status: number, accepted?: PipeHandle) => void;
}

/** Makes a bound descriptor listen, or one that listens already; the event loop waits for connections, nothing is polled. */
export class ListeningHandle {
  readonly #handle: Internals;
  #isClosed = false;

  /** `handle` is owned from now on. */
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

  /** Its descriptor; null where it is closed, or Node is not made as expected. */
  get fd(): number | null {
    const { fd } = this.#handle;
    return this.#isClosed || fd === undefined || fd < 0 ? null : fd;
  }

  /** Zero, or a negative number of the system; the handle is closed then. */
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
