/** `redirect:ADDR:PORT`: accepts what nftables redirects there, and asks the peer's egress for where it went (docs/egress.md). */
import type net from 'node:net';
import { VproxyError } from '../../errors.js';
import { type OnRead, readBuffered, resetSocket } from '../../system/sockets/node-sockets.js';
import { type FindOriginalDestination, loadOriginalDestination } from '../../system/sockets/original-destination.js';
import { formatHostPort, type HostPort } from '../../util/addresses/host-port.js';
import type { Caller } from '../connection.js';
import type { EndpointKind, Entrance, EntranceContext } from '../endpoint-kind.js';
import type { RedirectEndpoint } from '../forms/endpoint-forms.js';
import { RedirectedAnswer, redirectedRequest } from './redirected.js';

export const redirectEndpoint: EndpointKind<RedirectEndpoint> = {
  listenAddress: ({ host, port }) => ({ host, port }),
  createEntrance: (endpoint, context) => redirectEntrance(formatHostPort(endpoint), context),
};

/** What the program sends follows the request at once; what the peer sends passes once its answer allows the destination. */
function redirectEntrance(place: string, { clock, onRejected, service }: EntranceContext): Entrance {
  let find: FindOriginalDestination | null = null;
  return {
    async prepare() {
      find ??= await loadOriginalDestination().catch((cause: unknown) => {
        const message = `redirect:${place} needs the optional package koffi, which cannot be loaded (npm install koffi)`;
        throw new VproxyError('address-unavailable', message, { cause });
      });
    },
    receive(accepted, onCaller) {
      // Inherited with its stream, which carries the request.
      if (find === null) return;
      const destination = destinationOf(accepted, find);
      if (destination === null) {
        accepted.once('error', () => accepted.destroy());
        resetSocket(accepted);
        onRejected('nftables did not redirect it');
      } else onCaller(new RedirectedCaller(service, accepted, destination));
    },
    filters: (_, state, connection) => new RedirectedAnswer(clock, connection, state),
  };
}

/** Null if it was not redirected: a stream for it would lead here again, or nowhere. */
function destinationOf(socket: net.Socket, find: FindOriginalDestination): HostPort | null {
  const { localAddress = '', localPort = 0 } = socket;
  try {
    const found = find(socket);
    // Without the zone of a link-local address.
    const [own] = localAddress.replace('::ffff:', '').split('%');
    return found.port === localPort && found.host === own ? null : found;
  } catch {
    return null;
  }
}

class RedirectedCaller implements Caller {
  readonly service: string;
  readonly from: string;
  readonly isUntouched = true;
  readonly waitsForPeer = false;
  readonly socket: net.Socket;
  readonly destination: string;
  readonly request: Buffer;

  constructor(service: string, socket: net.Socket, destination: HostPort) {
    this.service = service;
    this.from = `${socket.remoteAddress ?? ''}:${socket.remotePort ?? 0}`;
    this.socket = socket;
    this.destination = formatHostPort(destination);
    this.request = redirectedRequest(this.destination);
  }

  read(onread: OnRead): void {
    readBuffered(this.socket, onread);
  }

  opened(): void {
    // The answer of the egress follows.
  }

  refuse(): void {
    resetSocket(this.socket);
  }
}
