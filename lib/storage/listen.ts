/** Listening for the storage service: on a TCP port, or on a unix socket that replaces a dead one's file. */
import { lstatSync, mkdirSync, unlinkSync } from 'node:fs';
import { createConnection, type Server } from 'node:net';
import { dirname } from 'node:path';
import { type ErrorCode, systemCode, VproxyError } from '../errors.js';

/** A TCP port, or the path of a unix socket. */
export type StorageAddress = { readonly host: string; readonly port: number } | { readonly path: string };

// What fits into sockaddr_un; longer paths are cut silently by the libuv of Node 20.
const MAX_PATH_BYTES = 107;

/** An address as people write it: `127.0.0.1:50000`, `[::1]:50000`, `/run/emulator.sock`. */
export function formatStorageAddress(address: StorageAddress): string {
  if ('path' in address) return address.path;
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`;
}

/**
 * Makes a server listen; port 0 picks one. For a unix socket the parent folder is made (0700), the socket has mode
 * 0600, and the file of a socket on which nobody answers is replaced. Resolves with the address that it got; rejects
 * with `address-in-use`, `address-denied` or `address-unavailable`.
 */
export async function listenAt(server: Server, address: StorageAddress): Promise<StorageAddress> {
  try {
    if ('path' in address) await listenOnPath(server, address.path);
    else await started(server, () => server.listen(address.port, address.host));
  } catch (error) {
    throw asAddressError(error, address);
  }
  const got = server.address();
  return 'path' in address || got === null || typeof got === 'string' ? address : { host: got.address, port: got.port };
}

async function listenOnPath(server: Server, path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    const message = `a unix socket's path has at most ${MAX_PATH_BYTES} bytes, not ${Buffer.byteLength(path)}: ${path}`;
    throw new VproxyError('address-unavailable', message);
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  try {
    await bind(server, path);
  } catch (error) {
    if (systemCode(error) !== 'EADDRINUSE' || !(await isStale(path))) throw error;
    unlinkSync(path);
    await bind(server, path);
  }
}

function bind(server: Server, path: string): Promise<void> {
  return started(server, () => {
    // The mode has to be right from the first moment; bind happens inside `listen`.
    const umask = process.umask(0o177);
    try {
      server.listen(path);
    } finally {
      process.umask(umask);
    }
  });
}

function started(server: Server, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error): void => {
      server.off('listening', settle).off('error', settle);
      if (error) reject(error);
      else resolve();
    };
    server.once('listening', settle).once('error', settle);
    listen();
  });
}

/** Whether a path is a socket on which nobody answers. A plain file refuses a connection too, and is not ours. */
function isStale(path: string): Promise<boolean> {
  if (!lstatSync(path).isSocket()) return Promise.resolve(false);
  return new Promise((resolve) => {
    const probe = createConnection(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(false);
    });
    probe.once('error', (error) => resolve(systemCode(error) === 'ECONNREFUSED'));
  });
}

const ADDRESS_CODES: Record<string, ErrorCode> = {
  EADDRINUSE: 'address-in-use',
  EACCES: 'address-denied',
  EPERM: 'address-denied',
};

function asAddressError(error: unknown, address: StorageAddress): VproxyError {
  if (error instanceof VproxyError) return error;
  const reason = systemCode(error);
  const message = `cannot listen on ${formatStorageAddress(address)} (${reason})`;
  return new VproxyError(ADDRESS_CODES[reason] ?? 'address-unavailable', message, { cause: error });
}
