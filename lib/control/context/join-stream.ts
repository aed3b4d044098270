/** Joins a connection on the control socket to a stream: data, half-close, resets, back-pressure. */
import type { Socket } from 'node:net';
import { VproxyError } from '../../errors.js';
import type { MuxStream } from '../../session/mux-stream.js';
import type { StreamEnd } from '../../status/types.js';
import { isHungUp, resetSocket } from '../../system/sockets/node-sockets.js';
import { describeError, escapeText } from '../../util/escape.js';

interface JoinOptions {
  /**
   * Whether to reset the stream when the program on the socket disconnects. A closed unix socket looks half-closed, so
   * otherwise this is detected only by writing to it.
   */
  readonly isAttached: boolean;
}

/** Joins the two, which then own each other. The socket may already be half-closed. */
export function joinStream(stream: MuxStream, socket: Socket, { isAttached }: JoinOptions): void {
  // Resets are handled on close.
  stream.on('error', () => undefined);
  stream.on('close', () => {
    if (stream.errored !== null) resetSocket(socket);
  });
  // A target that stopped reading may still answer; data for it is dropped further on.
  stream.on('stop', () => undefined);
  socket.on('error', (error) =>
    stream.destroy(new VproxyError('local-error', `local socket: ${describeError(error)}`)),
  );
  socket.on('close', () => {
    const isOrderly = socket.readableEnded && socket.writableFinished;
    if (!isOrderly) stream.destroy(new VproxyError('local-error', 'the local socket was closed'));
  });
  if (isAttached) {
    socket.on('end', () => {
      // Disconnecting after the other end has ended is in order.
      if (!stream.readableEnded && isHungUp(socket)) {
        stream.destroy(new VproxyError('cancelled', 'the program on the control socket has disconnected'));
      }
    });
  }
  socket.pipe(stream);
  pump(stream, socket);
}

/** Copies from the stream one write at a time; meanwhile the stream coalesces incoming data. */
function pump(stream: MuxStream, socket: Socket): void {
  let isWriting = false;
  const next = (): void => {
    if (isWriting || socket.destroyed) return;
    const bytes = stream.read() as Buffer | null;
    if (bytes === null) return;
    isWriting = true;
    socket.write(bytes, () => {
      isWriting = false;
      next();
    });
  };
  stream.on('readable', next);
  stream.once('end', () => socket.end());
}

// The ends of these streams, which the program cannot see on a closed unix socket.

/** The number of ended streams remembered, at most about 1.5 KiB each. */
export const KNOWN_ENDS = 1024;

/** In characters. */
const MAX_MESSAGE = 512;

/** The open streams of a control server, and the last ended ones. */
export class StreamEnds {
  readonly #open = new Set<number>();
  /** Oldest first. */
  readonly #ended = new Map<number, StreamEnd>();
  #count = 0;

  /** Adds a stream; returns the number that `find` takes. */
  add(): number {
    this.#count += 1;
    this.#open.add(this.#count);
    return this.#count;
  }

  /** Records the end of a stream; in order if `reason` is null. */
  end(id: number, reason: VproxyError | null): void {
    this.#open.delete(id);
    const error = reason && { code: escapeText(reason.code, 64), message: escapeText(reason.message, MAX_MESSAGE) };
    this.#ended.set(id, { state: error === null ? 'ended' : 'reset', error });
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > KNOWN_ENDS && oldest !== undefined) this.#ended.delete(oldest);
  }

  /** How a stream has ended. Throws `not-found` for an unknown number, or if many others have ended since. */
  find(id: number): StreamEnd {
    const known = this.#open.has(id) ? OPEN : this.#ended.get(id);
    if (known !== undefined) return known;
    throw new VproxyError('not-found', `stream ${id} of the control socket: unknown, or ended too long ago`);
  }
}

const OPEN: StreamEnd = { state: 'open', error: null };
