/** Where listening sockets stay while the process that listens on them is started anew: connections wait meanwhile. */
import { linkSync, lstatSync, renameSync, rmSync } from 'node:fs';
import type net from 'node:net';
import { resolve } from 'node:path';
import { formatHostPort } from '../../util/addresses.js';
import type { ListenAddress } from './listen-address.js';
import { descriptorOf } from './node-sockets.js';

/** Keeps listening sockets for the next process, as a service manager does. Nothing of it throws. */
export interface ListenerStore {
  /** Whether a socket was kept as `key` that nobody has taken yet. */
  has(key: string): boolean;
  /** The descriptor of the socket that was kept as `key`; the callee's from now on. Null where there is none. */
  take(key: string): number | null;
  /**
   * Keeps a socket that is listened on, whose descriptor stays the caller's. Does nothing for one that came from `take`. For a
   * socket that came in another way, as from the process before, it is to be called again.
   */
  put(key: string, fd: number): void;
  /**
   * To be called before a socket is closed: it is kept no more, and nobody can connect to it from now on. False where it
   * stays, as the process ends and the next one goes on with it: the file of a unix socket has to stay then, too. True for one
   * that was not kept.
   */
  remove(key: string): boolean;
  /**
   * Closes what nobody has taken: to be called when everything listens, and where an address is in use, as it may be that of
   * a socket which was kept. True where there was such a socket.
   */
  settle(): boolean;
  /** The process ends: what is kept stays, and nothing more is. */
  end(): void;
}

/** That of this process; null: nothing is kept. */
let store: ListenerStore | null = null;

/** Has `listen` use a store. To be called before anything listens; null is for none again. */
export function useListenerStore(used: ListenerStore | null): void {
  store = used;
}

/** Whether the socket of an address was kept, and is yet to be listened on here. */
export function isKept(address: ListenAddress): boolean {
  const key = store === null ? null : listenerKey(address);
  return key !== null && store?.has(key) === true;
}

/** The descriptor of the socket that was kept of an address, which is the callee's; null where there is none. */
export function takeKept(address: ListenAddress): number | null {
  const key = store === null ? null : listenerKey(address);
  return key === null ? null : (store?.take(key) ?? null);
}

/** Closes what was kept and nobody has taken, as it may be in the way. True where there was something. */
export function dropKept(): boolean {
  return store?.settle() === true;
}

/**
 * Keeps the socket of a server that listens at an address until the server is closed, and through the end of the process, where
 * there is a store. `isOwn` says whether Node has made its file, and removes it: otherwise that is done here.
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
    const goes = store?.remove(key) !== false;
    if (goes && !isOwn && path !== null && listenerKey(address) === key) tryTo(() => rmSync(path, { force: true }));
    if (goes || !isOwn || path === null) return close(callback);
    return closeWithoutFile(path, () => close(callback));
  };
}

/** What `close` gives, which removes the file at `path`: there it is again at once, the same as before. */
function closeWithoutFile<T>(path: string, close: () => T): T {
  const aside = `${path}.kept`;
  tryTo(() => rmSync(aside, { force: true }));
  tryTo(() => linkSync(path, aside));
  const result = close();
  tryTo(() => renameSync(aside, path));
  return result;
}

/** Where it fails, the next process that listens there binds another socket, or says what is wrong. */
function tryTo(change: () => void): void {
  try {
    change();
  } catch {
    // The folder may be another one's by now.
  }
}

/**
 * The key of a socket: one that is listened on at `address`, or, before that, one that may have been kept. Another address, other
 * permissions, or a socket whose file has been replaced, is another socket. Null for what cannot be kept: a port that the
 * system picks, and a unix socket without its file.
 */
export function listenerKey(address: ListenAddress): string | null {
  if (!('path' in address)) return address.port === 0 ? null : `tcp ${formatHostPort(address)}`;
  const { mode = 0o600, uid = -1, gid = -1 } = address.access ?? {};
  try {
    const file = lstatSync(address.path, { bigint: true });
    const words = [resolve(address.path), mode.toString(8), uid, gid, `${file.dev}:${file.ino}`];
    return file.isSocket() ? `unix ${words.join(' ')}` : null;
  } catch {
    // What is wrong with it shows when it is listened on.
    return null;
  }
}
