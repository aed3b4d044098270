/** Ending a socket so that its peer sees that something went wrong. */
import type net from 'node:net';

/**
 * Destroys a socket: on TCP with a reset (RST), elsewhere as `destroy()` does. Also right after `end()`, when
 * `resetAndDestroy()` would fail with EINVAL and leak the descriptor, because the system is still shutting it down.
 */
export function resetSocket(socket: net.Socket): void {
  if (socket.destroyed) return;
  const isConnectedTcp = socket.remoteFamily !== undefined;
  if (!isConnectedTcp) socket.destroy();
  else if (socket.writableEnded && socket.writableLength === 0 && !socket.writableFinished) {
    socket.once('finish', () => socket.resetAndDestroy());
  } else socket.resetAndDestroy();
}
