/**
 * Reading an accepted socket into the caller's own buffers, as `net.connect({ onread })` does for a connecting one.
 * Node has no public `onread` for sockets that a server accepts; this is the only place that reaches around that.
 */
import net from 'node:net';

/**
 * What an accepted socket is read with: `buffer` is called once at the start and after every `callback`, and gives the
 * memory for the next read; `callback` is told how many bytes were put at its start, and pauses the socket by
 * returning false, until `resume()`.
 */
export interface OnRead {
  buffer(): Uint8Array;
  callback(byteCount: number, buffer: Uint8Array): boolean;
}

/**
 * The socket to use instead of `socket`, which a `net.Server` has just emitted. It reads into the buffers of `onread`,
 * emits no `data`, and otherwise is an ordinary socket: `end`, `error`, `close`, half-close, `resetAndDestroy()`, and
 * it counts for `server.getConnections()` and `server.close()`. It reads at once; call `pause()` in the same turn to
 * begin later. The socket that was passed must not be used any more.
 *
 * Without the internals of Node that this needs the same socket comes back, and its bytes are copied into the buffers.
 */
export function acceptBuffered(socket: net.Socket, onread: OnRead): net.Socket {
  const handle = takeHandle(socket);
  if (handle === null) return copyIntoBuffers(socket, onread);
  const options: net.SocketConstructorOpts & { handle: object; onread: OnRead } = {
    handle,
    onread,
    allowHalfOpen: socket.allowHalfOpen,
    readable: true,
    writable: true,
  };
  const buffered: net.Socket & Internals = new net.Socket(options);
  // A server counts a socket down when the socket that knows it as `_server` is destroyed.
  buffered._server = (socket as Internals)._server;
  (socket as Internals)._server = null;
  socket.destroy();
  return buffered;
}

/** The fallback of {@link acceptBuffered}, with the same contract. */
export function copyIntoBuffers(socket: net.Socket, onread: OnRead): net.Socket {
  let buffer = onread.buffer();
  socket.on('data', (chunk: Buffer) => {
    let offset = 0;
    while (offset < chunk.length && !socket.destroyed) {
      const count = Math.min(chunk.length - offset, buffer.length);
      buffer.set(chunk.subarray(offset, offset + count));
      offset += count;
      const goesOn = onread.callback(count, buffer);
      buffer = onread.buffer();
      if (goesOn) continue;
      socket.pause();
      if (offset < chunk.length) socket.unshift(chunk.subarray(offset));
      return;
    }
  });
  return socket.resume();
}

/** What is used of a socket's insides. */
interface Internals {
  _handle?: unknown;
  _server?: unknown;
}

/** The handle of an accepted socket, taken from it; null where Node is not made as expected. */
function takeHandle(socket: net.Socket & Internals): object | null {
  const handle = socket._handle;
  if (typeof handle !== 'object' || handle === null || !('useUserBuffer' in handle)) return null;
  if (typeof socket._server !== 'object' || socket._server === null) return null;
  socket._handle = null;
  return handle;
}
