/** Ending a socket so that its peer sees that something went wrong. */
import type net from 'node:net';

/**
 * Destroys a socket: on TCP with a reset (RST), elsewhere as `destroy()` does. Also right after `end()`, when
 * `resetAndDestroy()` would fail with EINVAL and leak the descriptor, because the system is still shutting it down. A
 * TCP socket that is being connected lives until it is: the other end may have it already, and would take a mere end for
 * one in order.
 */
export function resetSocket(socket: net.Socket): void {
  if (socket.destroyed) return;
  const isConnectedTcp = socket.remoteFamily !== undefined;
  if (socket.connecting) resetWhenConnected(socket);
  else if (!isConnectedTcp) socket.destroy();
  else if (socket.writableEnded && socket.writableLength === 0 && !socket.writableFinished) {
    socket.once('finish', () => socket.resetAndDestroy());
  } else socket.resetAndDestroy();
}

function resetWhenConnected(socket: net.Socket): void {
  try {
    socket.resetAndDestroy();
  } catch {
    // No TCP: Node says so at once.
    socket.destroy();
  }
}
