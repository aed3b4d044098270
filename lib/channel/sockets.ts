/** Unix sockets and TCP ports: `unix-connect:PATH`, `unix-listen:PATH`, `tcp-connect:HOST:PORT`, `tcp-listen:HOST:PORT`. */
import { promises as fs, type Stats } from 'node:fs';
import net from 'node:net';
import { VproxyError } from '../errors.js';
import { channelError, openingCancelled } from '../link/link.js';
import { restoreSocketLink, SocketLink, type SocketLinkOptions } from '../link/socket-link.js';
import { lookup } from '../system/dns/lookup.js';
import { canonicalPath, withPinnedFile } from '../system/files/guarded-files.js';
import { LocalUsers } from '../system/proc/local-users.js';
import type { ListenAddress } from '../system/sockets/listen-address.js';
import { listen, listenAdopted } from '../system/sockets/listening.js';
import { descriptorOf, type OnRead, readBuffered } from '../system/sockets/node-sockets.js';
import {
  canonicalHost,
  formatHostPort,
  type HostPort,
  isLoopback,
  parseHostPort,
} from '../util/addresses/host-port.js';
import { formatPath, parseSocketPath } from '../util/addresses/paths.js';
import { systemClock } from '../util/clock.js';
import { deferred } from '../util/concurrency.js';
import { describeError, escapeText } from '../util/escape.js';
import {
  type ChannelListener,
  type ChannelTraits,
  type DialKind,
  type ListenHandlers,
  type ListenKind,
  TCP_TRAITS,
  VM_TRAITS,
} from './kind.js';

/** A unix socket that another program listens on, such as QEMU with `server=on`; its address is a path. */
export const unixConnect: DialKind<string> = {
  mode: 'dial',
  traits: VM_TRAITS,
  parse: parseSocketPath,
  format: formatPath,
  place: canonicalPath,
  locate: (path) => ({ is: 'unix-socket', path, servesOne: true }),
  async dial(path, { signal, followsLinks = true }) {
    const description = `unix-connect:${escapeText(path)}`;
    if (!followsLinks) return dialPinned(description, path, signal);
    const found = await fs.stat(path).catch((error: unknown) => {
      throw channelError(description, error);
    });
    // Connecting to anything but a socket also reports "refused", as if a retry could help.
    if (!found.isSocket()) throw notASocket(description, found);
    return dialSocket(description, { path }, signal, { mayBeStuck: true });
  },
  restoreLink: restoreSocketLink,
};

/** Connects to the file that is now at a path, even if it is replaced meanwhile. */
function dialPinned(description: string, path: string, signal: AbortSignal): Promise<SocketLink> {
  try {
    return withPinnedFile(path, ({ stats, link }) => {
      if (!stats.isSocket()) throw notASocket(description, stats);
      // The system connects within the call, so the file need not stay pinned.
      return dialSocket(description, { path: link }, signal, { mayBeStuck: true });
    });
  } catch (error) {
    return Promise.reject(channelError(description, error));
  }
}

function notASocket(description: string, found: Stats): VproxyError {
  const what = found.isSymbolicLink() ? 'it is a symbolic link, which groups do not follow' : 'not a socket';
  return new VproxyError('channel-unusable', `${description}: ${what}`);
}

// `unix-listen:PATH`: a unix socket that this side creates, for QEMU with `reconnect=N` or another vproxy.

/** Creates a kind called `name` whose address is the path of a unix socket to create. The socket file has mode 0600. */
export function unixListenKind(name: string, traits: ChannelTraits): ListenKind<string> {
  return {
    mode: 'listen',
    traits,
    parse: parseSocketPath,
    format: formatPath,
    place: canonicalPath,
    locate: (path) => ({ is: 'unix-listener', path }),
    isPrivate: () => true,
    listen(path, handlers, descriptor) {
      return listenForLinks({ path }, () => `${name}:${escapeText(path)}`, handlers, descriptor);
    },
    restoreLink: restoreSocketLink,
  };
}

export const unixListen = unixListenKind('unix-listen', VM_TRAITS);

// `tcp-connect:HOST:PORT`: a TCP port that the other vproxy, or QEMU, listens on.

export const tcpConnect: DialKind<HostPort> = {
  mode: 'dial',
  traits: TCP_TRAITS,
  parse: (text) => parseHostPort(text),
  format: formatHostPort,
  place: placeOfPort,
  locate: (address) => ({ is: 'tcp-port', address, servesOne: true }),
  strangers: ({ host }) => (isLoopback(host) ? null : 'anybody on the network'),
  dial: (address, { signal }) => dialSocket(`tcp-connect:${formatHostPort(address)}`, { ...address, lookup }, signal),
  restoreLink: restoreSocketLink,
};

// `tcp-listen:HOST:PORT`: a TCP port that this side listens on; port 0 picks one.

export const tcpListen: ListenKind<HostPort> = {
  mode: 'listen',
  traits: TCP_TRAITS,
  parse: (text) => parseHostPort(text, 0),
  format: formatHostPort,
  place: placeOfPort,
  locate: (address) => ({ is: 'tcp-listener', address }),
  isPrivate: ({ host }) => isLoopback(host),
  strangers: ({ host }) => (isLoopback(host) ? null : 'anybody on the network'),
  listen(asked, handlers, descriptor) {
    const describe = (bound: object) => `tcp-listen:${formatHostPort({ ...asked, ...bound })}`;
    return listenForLinks(asked, describe, handlers, descriptor);
  },
  restoreLink: restoreSocketLink,
};

/** Null for a port that the system picks. */
function placeOfPort({ host, port }: HostPort): string | null {
  return port === 0 ? null : formatHostPort({ host: canonicalHost(host), port });
}

// Connecting a socket as a link.

/** Connect timeout: shorter than the system's, to retry an unresponsive machine sooner. */
const CONNECT_TIMEOUT_MS = 10_000;

/**
 * Connects to a TCP address or a unix socket. Rejects with a `channel-…` code (`channel-failed` without an answer within
 * 10 s), or with `shutdown` when `signal` is aborted.
 */
async function dialSocket(
  description: string,
  address: net.NetConnectOpts,
  signal: AbortSignal,
  options: SocketLinkOptions = {},
): Promise<SocketLink> {
  if (signal.aborted) throw openingCancelled(description);
  const connected = deferred();
  const open = (onread: OnRead): net.Socket =>
    net
      .connect({ ...address, allowHalfOpen: true, onread })
      .once('connect', () => connected.resolve())
      .once('error', (error) => connected.reject(error));
  const link = new SocketLink(description, open, options);
  const cancel = () => connected.reject(openingCancelled(description));
  const cancelTimeout = systemClock.schedule(CONNECT_TIMEOUT_MS, () =>
    connected.reject(
      new VproxyError('channel-failed', `${description}: no answer within ${CONNECT_TIMEOUT_MS / 1000} s`),
    ),
  );
  signal.addEventListener('abort', cancel);
  try {
    await connected.promise;
    return link;
  } catch (error) {
    link.destroy();
    throw channelError(description, error);
  } finally {
    cancelTimeout();
    signal.removeEventListener('abort', cancel);
  }
}

// Listening for links on a TCP port or a unix socket file.

/** Listens on `address`, which `describe` formats, or on a predecessor's socket. Rejects with an `address-…` code. */
async function listenForLinks(
  address: ListenAddress,
  describe: (address: ListenAddress) => string,
  handlers: ListenHandlers,
  descriptor?: number,
): Promise<ChannelListener> {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  if (descriptor === undefined) await listen(server, address);
  else await listenAdopted(server, address, descriptor);
  const description = describe(boundAddress(server, address));
  const users = new LocalUsers();
  const handOn = (socket: net.Socket, from: string, origin: string | null = null): void => {
    handlers.onLink(new SocketLink(description + from, (onread) => readBuffered(socket, onread), { origin }));
  };
  server.on('connection', (socket) => {
    const address = socket.remoteAddress;
    if (address === undefined) handOn(socket, '');
    else
      void users.userOf(socket).then((user) => handOn(socket, ` from ${remoteName(socket)}`, originOf(address, user)));
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
      // The socket file and the port are free when this returns; the `close` event would also wait for the links.
      server.close();
      return Promise.resolve();
    },
    capture(keep) {
      const fd = descriptorOf(server);
      return fd === null ? null : keep(fd);
    },
  };
}

/** The address with the port that the system picked. */
function boundAddress(server: net.Server, asked: ListenAddress): ListenAddress {
  const bound = server.address();
  return 'path' in asked || bound === null || typeof bound === 'string' ? asked : { ...asked, port: bound.port };
}

/** The remote address; for this machine with the user, as all local users have the same address. */
function originOf(address: string, user: string | null): string {
  return user === null ? address : `${address} (user ${user})`;
}

function remoteName(socket: net.Socket): string {
  return formatHostPort({ host: socket.remoteAddress ?? '?', port: socket.remotePort ?? 0 });
}
