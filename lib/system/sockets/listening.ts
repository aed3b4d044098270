/** Listens on a TCP port, a socket file with its access, or an inherited or adopted socket, with errors that users can act on. */

import { once } from 'node:events';
import { lstatSync, mkdirSync, type Stats, unlinkSync } from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
import { systemCode, VproxyError } from '../../errors.js';
import { requireHost } from '../../util/addresses/host-port.js';
import { describeError, escapeText } from '../../util/escape.js';
import { type PinnedFile, withPinnedFile } from '../files/guarded-files.js';
import { findAddressOwner } from '../proc/proc-net.js';
import type { FileAccess, ListenAddress } from './listen-address.js';
import { listenFailure } from './listen-failure.js';
import { dropKept, keepListener, takeKept } from './listener-store.js';

/** Connections that wait to be accepted, up to the system's limit: with SYN cookies, it resets further ones in a burst. */
const BACKLOG = 4096;

/**
 * Makes `server` listen; resolves once it does. A socket file gets mode 0600 unless `access` differs, and never has more, not
 * even for a moment. It is removed when the server closes; an existing file is replaced only if it is a stale socket. A socket
 * that was kept for this address is used unchanged, and the socket is kept from now on (`useListenerStore`). Rejects with
 * `address-in-use` (naming the owner if known), `address-denied` or `address-unavailable`, and with `bad-argument` without a host.
 */
export async function listen(server: net.Server, address: ListenAddress): Promise<void> {
  if (!('path' in address)) requireHost(address.host);
  const kept = takeKept(address);
  if (kept !== null) await listenInherited(server, { fd: kept });
  else if (!(await bindUnlessInUse(server, address))) await bind(server, address);
  keepListener(server, address, kept === null);
}

/** Binds; false if that failed but may work now, because a socket kept for another use was closed. */
async function bindUnlessInUse(server: net.Server, address: ListenAddress): Promise<boolean> {
  try {
    await bind(server, address);
    return true;
  } catch (error) {
    if (error instanceof VproxyError && error.code === 'address-in-use' && dropKept()) return false;
    throw error;
  }
}

/** `listen` without a kept socket. */
async function bind(server: net.Server, address: ListenAddress): Promise<void> {
  try {
    if ('path' in address) await removeStaleFile(address.path);
    const listening = once(server, 'listening');
    if ('path' in address) bindServer(server, address.path, address.access ?? OWNER_ONLY);
    else server.listen(address.port, address.host, BACKLOG);
    await listening;
  } catch (error) {
    throw await listenFailure(error, address, 'tcp');
  }
}

/** Removes a stale socket file; for any other existing file throws `address-in-use`, or a system error. */
export async function removeStaleFile(path: string): Promise<void> {
  // The bind below would report a missing folder as a permission problem.
  if (lookAt(dirname(path)) === undefined) {
    throw new VproxyError('address-unavailable', `cannot listen on ${escapeText(path)}: its folder does not exist`);
  }
  const found = lookAt(path);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new VproxyError('address-in-use', `cannot listen on ${escapeText(path)}: exists and is not a socket`);
  }
  if (await isTaken(path)) {
    const owner = (await findAddressOwner({ path })) ?? 'another process';
    throw new VproxyError('address-in-use', `cannot listen on ${escapeText(path)}: already in use by ${owner}`);
  }
  // Another process may have replaced it meanwhile. Only another process can intervene between these two calls and the bind,
  // which then fails.
  if (isSameFile(lookAt(path), found)) unlinkSync(path);
}

/** Whether a process has a socket file, for connections or for datagrams. Rejects with a system error. */
async function isTaken(path: string): Promise<boolean> {
  try {
    return await isAnswered(path);
  } catch (error) {
    // A socket of another type.
    if (systemCode(error) === 'EPROTOTYPE') return true;
    throw error;
  }
}

/** Whether both are the same file. The inode number alone is not enough: those of removed files are soon reused. */
export function isSameFile(one: Stats | undefined, other: Stats): boolean {
  return one?.dev === other.dev && one.ino === other.ino && one.ctimeMs === other.ctimeMs;
}

function lookAt(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** Whether a process listens on a socket file; a full backlog counts. Rejects with a system error. */
export async function isAnswered(path: string): Promise<boolean> {
  const socket = net.connect({ path });
  try {
    await once(socket, 'connect');
    return true;
  } catch (error) {
    const code = systemCode(error);
    if (code === 'ECONNREFUSED' || code === 'ENOENT') return false;
    if (code === 'EAGAIN') return true;
    throw error;
  } finally {
    socket.destroy();
  }
}

const OWNER_ONLY: FileAccess = { mode: 0o600, uid: -1, gid: -1 };

function bindServer(server: net.Server, path: string, access: FileAccess): void {
  try {
    // Node binds a path before `listen` returns.
    bindPrivately(path, access, () => server.listen({ path, backlog: BACKLOG }).listening);
  } catch (error) {
    server.close();
    throw error;
  }
}

/**
 * Creates a socket file by `bind`, and gives it its access; if `bind` returns false, nothing was created. It binds under a umask
 * that gives others nothing: with chmod alone there would be a moment in which they can connect. Only a file created by the
 * thread pool in the same moment also sees that umask; it keeps the owner's rights, so that such a file or folder is merely not
 * shared. Throws a system error.
 */
export function bindPrivately(path: string, access: FileAccess, bind: () => boolean): void {
  let umask: number | null = null;
  try {
    umask = process.umask(0o077);
  } catch {
    // Worker threads cannot set it.
  }
  let isBound: boolean;
  try {
    isBound = bind();
  } finally {
    if (umask !== null) process.umask(umask);
  }
  if (isBound) withPinnedFile(path, (file) => giveAccess(file, access));
}

/** Gives a new socket file its mode and owners. */
function giveAccess(file: PinnedFile, { mode, uid, gid }: FileAccess): void {
  const { stats } = file;
  // The owner of the folder may have put another file here, to have it opened to others.
  if (!stats.isSocket() || stats.nlink !== 1) throw new Error('the socket was replaced by another file');
  const hasOwners = uid !== -1 || gid !== -1;
  try {
    // A new owner gets no more than the mode allows, and a group gets nothing before it is the right one.
    if (hasOwners) file.chmod(mode & 0o700);
    if (hasOwners) file.chown(uid, gid);
    file.chmod(mode);
  } catch (error) {
    // For the owner alone, the mode from its creation is good enough.
    const isGood = mode === OWNER_ONLY.mode && !hasOwners && (stats.mode & 0o077) === 0;
    if (!isGood || !isProcMissing(error)) throw error;
  }
}

/** Whether a file could not be changed for lack of /proc, or because of Node's permission model. */
const isProcMissing = (error: unknown): boolean => ['ENOENT', 'ERR_ACCESS_DENIED'].includes(systemCode(error));

// Listening on a socket that another process bound, such as systemd.

/** A listening stream socket that this process was started with. */
export interface InheritedSocket {
  /** Its descriptor. */
  readonly fd: number;
}

/**
 * Makes `server` accept connections of an inherited socket; resolves once it does. The server then owns the descriptor; the
 * socket's file stays when it closes. Rejects with `address-unavailable` for any other kind of descriptor.
 */
export async function listenInherited(server: net.Server, { fd }: InheritedSocket): Promise<void> {
  try {
    const listening = once(server, 'listening');
    // An earlier failure is thrown; then this promise is not awaited.
    listening.catch(() => undefined);
    server.listen({ fd, backlog: BACKLOG });
    await listening;
  } catch (error) {
    const message = `cannot listen on the inherited descriptor ${fd}: ${describeError(error)}`;
    throw new VproxyError('address-unavailable', message, { cause: error });
  }
}

// Listening on a socket of the predecessor.

/**
 * Makes `server` accept connections of a socket that the predecessor bound to `address`, without changing its access. The server
 * owns the descriptor; it removes the socket's file on close, as if this process had made it. The predecessor must have ended
 * without closing its own server, which would remove the file. Rejects with `address-unavailable`.
 */
export async function listenAdopted(server: net.Server, address: ListenAddress, fd: number): Promise<void> {
  const listening = listenInherited(server, { fd });
  // Now, as the server may be closed before its `listening` event.
  keepListener(server, address, false);
  await listening;
}

// The folder of a unix socket.

/**
 * Creates the folder of a socket, and missing parents, with mode 0700. Returns whether the folder itself was created. Throws
 * `address-denied` or `address-unavailable`.
 */
export function makeSocketFolder(path: string): boolean {
  try {
    return mkdirSync(dirname(path), { recursive: true, mode: 0o700 }) !== undefined;
  } catch (cause) {
    const isDenied = systemCode(cause) === 'EACCES' || systemCode(cause) === 'EPERM';
    const code = isDenied ? 'address-denied' : 'address-unavailable';
    const message = `cannot listen on ${escapeText(path)}: cannot create its folder: ${describeError(cause)}`;
    throw new VproxyError(code, message, { cause });
  }
}
