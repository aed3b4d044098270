/** Joins a connection of the control socket and a stream: bytes, half-close, resets, back-pressure. */
import type { Socket } from 'node:net';
import { VproxyError } from '../errors.js';
import type { MuxStream } from '../session/mux-stream.js';
import { resetSocket } from '../util/reset-socket.js';

/** Joins the two, which own each other from then on. The socket may have ended its direction already. */
export function joinStream(stream: MuxStream, socket: Socket): void {
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
  socket.pipe(stream);
  stream.pipe(socket);
}
