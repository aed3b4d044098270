/** Ending a socket so that its peer sees that something went wrong. */
import type net from 'node:net';

/**
 * Destroys a socket: on TCP with a reset (RST), elsewhere as `destroy()` does. Also right after `end()`, when
 * `resetAndDestroy()` would fail with EINVAL and leak the descriptor, because the system is still shutting it down.
 * It may be connected already without Node having seen it: then the other end would take a mere end for one in order.
 */
export function resetSocket(socket: net.Socket): void {
  if (socket.destroyed) return;
  const isConnectedTcp = socket.remoteFamily !== undefined;
  if (socket.connecting) resetConnecting(socket);
  else if (!isConnectedTcp) socket.destroy();
  else if (socket.writableEnded && socket.writableLength === 0 && !socket.writableFinished) {
    socket.once('finish', () => socket.resetAndDestroy());
  } else socket.resetAndDestroy();
}

/** What is used of a socket's insides: `resetAndDestroy()` would wait for the connection first, however long that takes. */
interface Internals {
  _reset?(): void;
  readonly _handle?: { readonly fd?: number; readonly reset?: unknown } | null;
}

function resetConnecting(socket: net.Socket & Internals): void {
  const handle = socket._handle;
  const hasBegun = typeof handle?.fd === 'number' && handle.fd >= 0;
  if (hasBegun && 'reset' in handle && socket._reset !== undefined) socket._reset();
  else socket.destroy();
}
