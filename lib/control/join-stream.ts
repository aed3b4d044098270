/** Joins a connection of the control socket and a stream: bytes, half-close, resets, back-pressure. */
import type { Socket } from 'node:net';
import { VproxyError } from '../errors.js';
import type { MuxStream } from '../session/mux-stream.js';
import { isHungUp } from '../util/hidden-reset.js';
import { resetSocket } from '../util/reset-socket.js';

/** How the two depend on each other. */
export interface JoinOptions {
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
  socket.on('error', (error) => stream.destroy(new VproxyError('local-error', `local socket: ${error.message}`)));
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
