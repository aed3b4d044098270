/** Listening on a TCP port, or on a unix socket whose folder is created. */
import type { Server } from 'node:net';
import { VproxyError } from '../../errors.js';
import { formatHostPort } from '../../util/addresses/host-port.js';
import { MAX_SOCKET_PATH_BYTES } from '../../util/addresses/paths.js';
import { escapeText } from '../../util/escape.js';
import type { ListenAddress } from './listen-address.js';
import { listen, listenAdopted, makeSocketFolder } from './listening.js';

/** Formats an address as users write it: `127.0.0.1:50000`, `[::1]:50000`, `/run/emulator.sock`. */
export function formatListenAddress(address: ListenAddress): string {
  return 'path' in address ? address.path : formatHostPort(address);
}

/**
 * Makes a server listen; port 0 picks one. For a unix socket, a missing parent folder is created (0700), and the socket
 * has mode 0600. Resolves with the actual address; rejects with `address-in-use`, `address-denied` or
 * `address-unavailable`. `fd`: a descriptor that already listens there. Default: none.
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
    const message = `cannot listen on ${escapeText(path)}: path too long: ${bytes} bytes (max ${MAX_SOCKET_PATH_BYTES})`;
    throw new VproxyError('address-unavailable', message);
  }
  makeSocketFolder(path);
}
