/** Listening for the storage service, at a TCP port or at a unix socket whose folder is made. */
import type { Server } from 'node:net';
import { VproxyError } from '../errors.js';
import type { ListenAddress } from '../system/sockets/listen-address.js';
import { listen, listenAdopted, makeSocketFolder } from '../system/sockets/listening.js';
import { formatHostPort, MAX_SOCKET_PATH_BYTES } from '../util/addresses.js';
import { escapeText } from '../util/escape.js';

/** An address as people write it: `127.0.0.1:50000`, `[::1]:50000`, `/run/emulator.sock`. */
export function formatStorageAddress(address: ListenAddress): string {
  return 'path' in address ? address.path : formatHostPort(address);
}

/**
 * Makes a server listen; port 0 picks one. For a unix socket the parent folder is made where it is missing (0700), and
 * the socket has mode 0600. Resolves with the address that it got; rejects with `address-in-use`, `address-denied` or
 * `address-unavailable`. `fd` is a descriptor that is listened on there already. Default: there is none.
 */
export async function listenAt(server: Server, address: ListenAddress, fd?: number): Promise<ListenAddress> {
  if (fd !== undefined) {
    await listenAdopted(server, address, fd);
    return address;
  }
  if ('path' in address) makeFolder(address.path);
  await listen(server, address);
  const got = server.address();
  return 'path' in address || got === null || typeof got === 'string' ? address : { host: got.address, port: got.port };
}

function makeFolder(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes > MAX_SOCKET_PATH_BYTES) {
    const message = `cannot listen on ${escapeText(path)}: the path of a unix socket has at most ${MAX_SOCKET_PATH_BYTES} bytes, not ${bytes}`;
    throw new VproxyError('address-unavailable', message);
  }
  makeSocketFolder(path);
}
