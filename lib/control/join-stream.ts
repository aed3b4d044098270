/** Joins a connection of the control socket and a stream: bytes, half-close, resets, back-pressure. */
import type { Socket } from 'node:net';
import { VproxyError } from '../errors.js';
import type { MuxStream } from '../session/mux-stream.js';
import { resetSocket } from '../util/reset-socket.js';

/** Joins the two; the socket may have ended its direction already, and must not be destroyed. */
export function joinStream(stream: MuxStream, socket: Socket): void {
  // Resets arrive with the close of the stream.
  stream.on('error', () => undefined);
  stream.on('close', () => {
    if (stream.errored !== null) resetSocket(socket);
  });
  stream.on('stop', () => {
    // Nobody reads what comes, but the socket is still written to.
    socket.unpipe(stream).resume();
    if (socket.readableEnded) stream.end();
    else socket.once('end', () => stream.end());
  });
  socket.on('error', (error) => stream.destroy(new VproxyError('local-error', `local socket: ${error.message}`)));
  socket.on('close', () => {
    const isOrderly = socket.readableEnded && socket.writableFinished;
    if (!isOrderly) stream.destroy(new VproxyError('local-error', 'the local socket was closed'));
  });
  if (socket.readableEnded) stream.end();
  else socket.pipe(stream);
  stream.pipe(socket);
}
