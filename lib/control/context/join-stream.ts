/** Joins a connection of the control socket and a stream: bytes, half-close, resets, back-pressure. */
import type { Socket } from 'node:net';
import { VproxyError } from '../../errors.js';
import type { MuxStream } from '../../session/mux-stream.js';
import type { StreamEnd } from '../../status/types.js';
import { isHungUp, resetSocket } from '../../system/sockets/node-sockets.js';
import { describeError, escapeText } from '../../util/escape.js';

interface JoinOptions {
  /**
   * Whether the stream is reset when the program at the socket has gone. A unix socket that was closed looks like one whose
   * direction has ended, so that else this is noticed when something is written to it.
   */
  readonly isAttached: boolean;
}

/** Joins the two, which own each other from then on. The socket may have ended its direction already. */
export function joinStream(stream: MuxStream, socket: Socket, { isAttached }: JoinOptions): void {
  // Resets arrive with the close of the stream.
  stream.on('error', () => undefined);
  stream.on('close', () => {
    if (stream.errored !== null) resetSocket(socket);
  });
  // A target that reads no more may still answer: what is written to it is dropped where somebody hears of that.
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
      // A program that has gone when the other end had ended has left in order.
      if (!stream.readableEnded && isHungUp(socket)) {
        stream.destroy(new VproxyError('cancelled', 'the program at the control socket has gone'));
      }
    });
  }
  socket.pipe(stream);
  pump(stream, socket);
}

/** Writes what a stream brings, one write at a time: what comes meanwhile stays with the stream, which gathers it. */
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

// How these streams have ended: a unix socket that is closed does not tell its program.

/** The number of ended streams that are kept, each with at most about 1.5 KiB. */
export const KNOWN_ENDS = 1024;

/** In characters. */
const MAX_MESSAGE = 512;

/** The open streams of a control server, and those that have ended last. */
export class StreamEnds {
  readonly #open = new Set<number>();
  /** The oldest first. */
  readonly #ended = new Map<number, StreamEnd>();
  #count = 0;

  /** Adds a stream; returns the number that `find` takes. */
  add(): number {
    this.#count += 1;
    this.#open.add(this.#count);
    return this.#count;
  }

  /** A stream has ended, in order if `reason` is null. */
  end(id: number, reason: VproxyError | null): void {
    this.#open.delete(id);
    const error = reason && { code: escapeText(reason.code, 64), message: escapeText(reason.message, MAX_MESSAGE) };
    this.#ended.set(id, { state: error === null ? 'ended' : 'reset', error });
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > KNOWN_ENDS && oldest !== undefined) this.#ended.delete(oldest);
  }

  /** How a stream has ended. Throws `not-found` for an unknown number, and when many others have ended since. */
  find(id: number): StreamEnd {
    const known = this.#open.has(id) ? OPEN : this.#ended.get(id);
    if (known !== undefined) return known;
    throw new VproxyError(
      'not-found',
      `how stream ${id} of the control socket has ended is not known, or not any more`,
    );
  }
}

const OPEN: StreamEnd = { state: 'open', error: null };
