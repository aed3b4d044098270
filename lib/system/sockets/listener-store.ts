/** Keeps listening sockets while their process restarts, so that connections wait meanwhile. */
import { linkSync, lstatSync, renameSync, rmSync } from 'node:fs';
import type net from 'node:net';
import { resolve } from 'node:path';
import { formatHostPort } from '../../util/addresses/host-port.js';
import type { ListenAddress } from './listen-address.js';
import { descriptorOf } from './node-sockets.js';

/** Keeps listening sockets for the next process, like a service manager. Its methods do not throw. */
export interface ListenerStore {
  /** Whether a socket was kept as `key` and not taken yet. */
  has(key: string): boolean;
  /** Takes ownership of the descriptor kept as `key`; null if there is none. */
  take(key: string): number | null;
  /**
   * Keeps a listening socket, whose descriptor stays the caller's. Does nothing for one that came from `take`. Call it again for
   * a socket that came in another way, such as from the predecessor.
   */
  put(key: string, fd: number): void;
  /**
   * Call before closing a socket: it is no longer kept, and accepts no connections from now on. False if it stays because the
   * process ends and the next one continues with it; then the file of a unix socket must stay, too. True if it was not kept.
   */
  remove(key: string): boolean;
  /**
   * Closes whatever was not taken. Call when everything listens, and when an address is in use, possibly by a kept socket. True
   * if there was any.
   */
  settle(): boolean;
  /** The process ends: kept sockets stay, and no more are added. */
  end(): void;
}

/** The store of this process; null: nothing is kept. */
let store: ListenerStore | null = null;

/** Makes `listen` use a store; null for none. Call before anything listens. */
export function useListenerStore(used: ListenerStore | null): void {
  store = used;
}

/** Whether the socket of an address was kept, and does not listen here yet. */
export function isKept(address: ListenAddress): boolean {
  const key = store === null ? null : listenerKey(address);
  return key !== null && store?.has(key) === true;
}

/** Takes ownership of the descriptor kept for an address; null if there is none. */
export function takeKept(address: ListenAddress): number | null {
  const key = store === null ? null : listenerKey(address);
  return key === null ? null : (store?.take(key) ?? null);
}

/** Closes kept sockets that were not taken, as they may be in the way. True if there were any. */
export function dropKept(): boolean {
  return store?.settle() === true;
}

/**
 * With a store, keeps the socket of a server until the server is closed, and across the end of the process. `isOwn`: Node created
 * its file and removes it; otherwise that is done here.
 */
export function keepListener(server: net.Server, address: ListenAddress, isOwn: boolean): void {
  const fd = descriptorOf(server);
  if (fd === null || (store === null && isOwn)) return;
  const key = listenerKey(address);
  if (key === null) return;
  store?.put(key, fd);
  const path = 'path' in address ? address.path : null;
  const close = server.close.bind(server);
  server.close = (callback) => {
    server.close = close;
    const isRemoved = store?.remove(key) !== false;
    if (isRemoved && !isOwn && path !== null && listenerKey(address) === key)
      tryTo(() => rmSync(path, { force: true }));
    if (isRemoved || !isOwn || path === null) return close(callback);
    return closeWithoutFile(path, () => close(callback));
  };
}

/** Calls `close`, which removes the file at `path`, and restores the same file at once. */
function closeWithoutFile<T>(path: string, close: () => T): T {
  const aside = `${path}.kept`;
  tryTo(() => rmSync(aside, { force: true }));
  tryTo(() => linkSync(path, aside));
  const result = close();
  tryTo(() => renameSync(aside, path));
  return result;
}

/** If it fails, the next process that listens there binds another socket, or reports the problem. */
function tryTo(change: () => void): void {
  try {
    change();
  } catch {
    // The folder may belong to another user by now.
  }
}

/**
 * The key of a socket that listens at `address`, or may have been kept. Another address, other permissions or a replaced file
 * make another socket. Null if it cannot be kept: a port that the system picks, or a unix socket without its file.
 */
export function listenerKey(address: ListenAddress): string | null {
  if (!('path' in address)) return address.port === 0 ? null : `tcp ${formatHostPort(address)}`;
  const { mode = 0o600, uid = -1, gid = -1 } = address.access ?? {};
  try {
    const file = lstatSync(address.path, { bigint: true });
    const words = [resolve(address.path), mode.toString(8), uid, gid, `${file.dev}:${file.ino}`];
    return file.isSocket() ? `unix ${words.join(' ')}` : null;
  } catch {
    // Listening on it will show the problem.
    return null;
  }
}
