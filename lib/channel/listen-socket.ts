/** Listening for links on a TCP port or a unix socket file. */
import net from 'node:net';
import { VproxyError } from '../errors.js';
import { acceptBuffered } from '../util/buffered-socket.js';
import { describeError } from '../util/describe-error.js';
import { formatHostPort } from '../util/host-port.js';
import { type ListenAddress, listen } from '../util/listen.js';
import type { ChannelListener, ListenHandlers } from './kind.js';
import { SocketLink } from './socket-link.js';

/** Listens on `address`, which `describe` shows. Rejects with an `address-…` code. */
export async function listenForLinks(
  address: ListenAddress,
  describe: (address: ListenAddress) => string,
  handlers: ListenHandlers,
): Promise<ChannelListener> {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  await listen(server, address);
  const description = describe(addressInForce(server, address));
  server.on('connection', (socket) => {
    const from = socket.remoteAddress === undefined ? '' : ` from ${remoteName(socket)}`;
    const origin = socket.remoteAddress;
    handlers.onLink(new SocketLink(description + from, (onread) => acceptBuffered(socket, onread), { origin }));
  });
  server.on('error', (error) => {
    if (!server.listening) return;
    server.close();
    handlers.onFailed(
      new VproxyError('channel-failed', `${description} failed: ${describeError(error)}`, { cause: error }),
    );
  });
  return {
    description,
    close() {
      // The socket file and the port are free when this returns; the server's own `close` also awaits the links.
      server.close();
      return Promise.resolve();
    },
  };
}

/** The address with the port that the system picked. */
function addressInForce(server: net.Server, asked: ListenAddress): ListenAddress {
  const bound = server.address();
  return 'path' in asked || bound === null || typeof bound === 'string' ? asked : { ...asked, port: bound.port };
}

function remoteName(socket: net.Socket): string {
  return formatHostPort({ host: socket.remoteAddress ?? '?', port: socket.remotePort ?? 0 });
}
