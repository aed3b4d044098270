/** Accepting connections on a handle of Node, for a family of sockets that `net.Server` does not take. */
import type { PipeHandle } from './pipe-handle.js';

/** Whom a listening handle calls. */
export interface ListeningHandlers {
  /** A connection; its handle is the callee's. */
  readonly onAccepted: (handle: PipeHandle) => void;
  /** Accepting failed with this (negative) number of the system, and the handle is closed. */
  readonly onFailed: (status: number) => void;
}

/** What of a handle is used to listen. */
interface Internals extends PipeHandle {
  listen(backlog: number): number;
  close(): void;
  onconnection: (status: number, accepted?: PipeHandle) => void;
}

/** Makes a bound descriptor listen; the event loop waits for connections, nothing is polled. */
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
