/** Joins a connection of the control socket and a stream: bytes, half-close, resets, back-pressure. */
import type { Socket } from 'node:net';
import { VproxyError } from '../errors.js';
import type { MuxStream } from '../session/mux-stream.js';
import { resetSocket } from '../util/reset-socket.js';

/** What goes one way waits where the other end does not read; `head` is what the socket has given already. */
export function joinStream(stream: MuxStream, socket: Socket, head: Buffer): void {
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
  if (head.length > 0) socket.unshift(head);
  socket.pipe(stream);
  stream.pipe(socket);
}
