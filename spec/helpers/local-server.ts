/** A server for a test, in its own file: specs that need no proxy do not load one. */
import { once } from 'node:events';
import net from 'node:net';
import type { ExecutionContext } from 'ava';

/** A local server for a target; closed with all its sockets when the test ends. */
export async function localServer(
  t: ExecutionContext,
  handle: (socket: net.Socket) => void,
  address: net.ListenOptions = { host: '127.0.0.1', port: 0 },
  options: net.ServerOpts = {},
): Promise<net.Server & { readonly port: number }> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer({ allowHalfOpen: true, ...options }, (socket) => {
    sockets.add(socket);
    socket.on('error', () => undefined);
    socket.once('close', () => sockets.delete(socket));
    handle(socket);
  });
  server.listen(address);
  await once(server, 'listening');
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  const bound = server.address();
  return Object.assign(server, { port: bound !== null && typeof bound === 'object' ? bound.port : 0 });
}
