/** `tcp-listen:HOST:PORT`: a TCP port that this side listens on; port 0 picks one. */
import { formatHostPort, type HostPort, isLoopback, parseHostPort } from '../util/host-port.js';
import type { ListenKind } from './kind.js';
import { listenForLinks } from './listen-socket.js';
import { TCP_TRAITS } from './traits.js';

/** The kind `tcp-listen`. */
export const tcpListen: ListenKind<HostPort> = {
  mode: 'listen',
  traits: TCP_TRAITS,
  parse: (text) => parseHostPort(text, 0),
  format: formatHostPort,
  isPrivate: ({ host }) => isLoopback(host),
  strangers: ({ host }) => (isLoopback(host) ? null : 'anybody on the network'),
  listen(asked, handlers) {
    const describe = (bound: object) => `tcp-listen:${formatHostPort({ ...asked, ...bound })}`;
    return listenForLinks(asked, describe, handlers);
  },
};
