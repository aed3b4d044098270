/** Listening on a TCP port, a unix socket file with its access, or a socket that was inherited or adopted, with errors that people can act on. */

import { once } from 'node:events';
import { lstatSync, mkdirSync, type Stats, unlinkSync } from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
import { systemCode, VproxyError } from '../../errors.js';
import { formatHostPort } from '../../util/addresses.js';
import { meaningOf } from '../../util/errno.js';
import { describeError, escapeText } from '../../util/escape.js';
import { type PinnedFile, withPinnedFile } from '../files/guarded-files.js';
import { findAddressOwner } from '../proc/proc-net.js';
import type { FileAccess, ListenAddress } from './listen-address.js';
import { dropKept, keepListener, takeKept } from './listener-store.js';

/**
 * Makes `server` listen; resolved when it does. A socket file is the owner's alone (mode 0600) unless `access` says
 * otherwise, and never more open than that, not for a moment. It goes when the server closes; one that is there already
 * is replaced only if it is a socket on which nobody answers. A socket that was kept for this address is taken as it is, and the
 * socket is kept from now on (`useListenerStore`). Rejects with `address-in-use` (which says who has the
 * address, if that can be known), `address-denied` or `address-unavailable`.
 */
export async function listen(server: net.Server, address: ListenAddress): Promise<void> {
  const kept = takeKept(address);
  if (kept !== null) await listenInherited(server, { fd: kept });
  else if (!(await bindUnlessInUse(server, address))) await bind(server, address);
  keepListener(server, address, kept === null);
}

/** Binds; false where it cannot be, but may be now, as a socket that was kept for another use is there no more. */
async function bindUnlessInUse(server: net.Server, address: ListenAddress): Promise<boolean> {
  try {
    await bind(server, address);
    return true;
  } catch (error) {
    if (error instanceof VproxyError && error.code === 'address-in-use' && dropKept()) return false;
    throw error;
  }
}

/** `listen`, where no socket was kept. */
async function bind(server: net.Server, address: ListenAddress): Promise<void> {
  try {
    if ('path' in address) await removeStaleFile(address.path);
    const listening = once(server, 'listening');
    if ('path' in address) bindServer(server, address.path, address.access ?? OWNER_ONLY);
    else server.listen(address.port, address.host);
    await listening;
  } catch (error) {
    throw await listenFailure(error, address, 'tcp');
  }
}

/** Why an address cannot be listened on: `address-in-use`, with who has it, if that can be known, `address-denied` or `address-unavailable`. */
export async function listenFailure(
  error: unknown,
  address: ListenAddress,
  protocol: 'tcp' | 'udp',
): Promise<VproxyError> {
  if (error instanceof VproxyError) return error;
  const where = 'path' in address ? escapeText(address.path) : formatHostPort(address);
  const code = meaningOf(systemCode(error)).listen ?? 'address-unavailable';
  const owner = code === 'address-in-use' ? await findAddressOwner(address, { protocol }) : null;
  const what = owner === null ? describeError(error) : `it is taken by ${owner}`;
  return new VproxyError(code, `cannot listen on ${where}: ${what}`, { cause: error });
}

/** Removes a socket file on which nobody answers; leaves every other file and throws `address-in-use` or an error of the system. */
export async function removeStaleFile(path: string): Promise<void> {
  // The bind below reports a folder that is not there as one without permission.
  if (lookAt(dirname(path)) === undefined) {
    throw new VproxyError('address-unavailable', `cannot listen on ${escapeText(path)}: the folder does not exist`);
  }
  const found = lookAt(path);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new VproxyError('address-in-use', `cannot listen on ${escapeText(path)}: it exists and is not a socket`);
  }
  if (await isTaken(path)) {
    const owner = (await findAddressOwner({ path })) ?? 'another process';
    throw new VproxyError('address-in-use', `cannot listen on ${escapeText(path)}: it is taken by ${owner}`);
  }
  // Another process may have replaced it meanwhile. Only another process can come between these two calls and the bind,
  // and then the bind fails.
  if (isSameFile(lookAt(path), found)) unlinkSync(path);
}

/** Whether a process has a socket file, for connections or for datagrams. Rejects with an error of the system. */
async function isTaken(path: string): Promise<boolean> {
  try {
    return await isAnswered(path);
  } catch (error) {
    // A socket of another type is there.
    if (systemCode(error) === 'EPROTOTYPE') return true;
    throw error;
  }
}

/** Whether both are of one file. Its number alone does not say so: that of a file that has gone is soon another one's. */
export function isSameFile(one: Stats | undefined, other: Stats): boolean {
  return one?.dev === other.dev && one.ino === other.ino && one.ctimeMs === other.ctimeMs;
}

function lookAt(path: string): Stats | undefined {
  return lstatSync(path, { throwIfNoEntry: false });
}

/** Whether a process listens on a socket file; a full queue counts as an answer. Rejects with an error of the system. */
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
    bindPrivately(path, access, () => server.listen({ path }).listening);
  } catch (error) {
    server.close();
    throw error;
  }
}

/**
 * Has `bind` make a socket file at a path, and gives it its access; where that gives false, nothing was made. It binds under
 * a umask that gives others nothing: a chmod alone would leave a moment in which they can connect. Only a file that the
 * thread pool makes in this moment sees that umask; it leaves the owner's rights whole, so that such a file, or folder, is
 * merely not shared. Throws an error of the system.
 */
export function bindPrivately(path: string, access: FileAccess, bind: () => boolean): void {
  let umask: number | null = null;
  try {
    umask = process.umask(0o077);
  } catch {
    // A worker thread cannot set it.
  }
  let isBound: boolean;
  try {
    isBound = bind();
  } finally {
    if (umask !== null) process.umask(umask);
  }
  if (isBound) withPinnedFile(path, (file) => giveAccess(file, access));
}

/** Gives a socket file that was just made its mode and its owners. */
function giveAccess(file: PinnedFile, { mode, uid, gid }: FileAccess): void {
  const { stats } = file;
  // The owner of the folder may have put another file there, to have that one opened to others.
  if (!stats.isSocket() || stats.nlink !== 1) throw new Error('another file was put in the place of the socket');
  const hasOwners = uid !== -1 || gid !== -1;
  try {
    // A new owner gets no more than the mode gives it, and a group gets nothing before it is the right one.
    if (hasOwners) file.chmod(mode & 0o700);
    if (hasOwners) file.chown(uid, gid);
    file.chmod(mode);
  } catch (error) {
    // For its owner alone, the mode that it was made with is as good.
    const isGood = mode === OWNER_ONLY.mode && !hasOwners && (stats.mode & 0o077) === 0;
    if (!isGood || !isProcMissing(error)) throw error;
  }
}

/** Whether a file could not be changed because there is no /proc, or because of Node's permission model. */
const isProcMissing = (error: unknown): boolean => ['ENOENT', 'ERR_ACCESS_DENIED'].includes(systemCode(error));

// Listening on a socket that another process has bound, such as systemd.

/** A listening stream socket that this process was started with. */
export interface InheritedSocket {
  /** Its descriptor. */
  readonly fd: number;
}

/**
 * Makes `server` accept the connections of an inherited socket; resolved when it does. The descriptor is the server's from
 * then on; the socket's file stays when it closes. Rejects with `address-unavailable` for what is no such socket.
 */
export async function listenInherited(server: net.Server, { fd }: InheritedSocket): Promise<void> {
  try {
    const listening = once(server, 'listening');
    // What fails before is thrown, and then nobody waits for that.
    listening.catch(() => undefined);
    server.listen({ fd });
    await listening;
  } catch (error) {
    const message = `cannot listen on the inherited descriptor ${fd}: ${describeError(error)}`;
    throw new VproxyError('address-unavailable', message, { cause: error });
  }
}

// Listening on the socket of the process that this one is the successor of.

/**
 * Makes `server` accept the connections of the socket `fd` that a predecessor of this process has made for `address`: nothing is bound,
 * and who may connect stays as it is. The descriptor is the server's from then on; the socket's file goes when the server closes, as
 * if this process had made it. The predecessor must have ended without closing its own server, which would remove the file. Rejects
 * with `address-unavailable`.
 */
export async function listenAdopted(server: net.Server, address: ListenAddress, fd: number): Promise<void> {
  const listening = listenInherited(server, { fd });
  // At once, as it may be closed before it is told that it listens.
  keepListener(server, address, false);
  await listening;
}

// The folder of a unix socket that is to be listened on.

/**
 * Makes the folder of a socket, and those above it, with mode 0700 where they are missing. True when the folder itself
 * was. Throws `address-denied` or `address-unavailable`.
 */
export function makeSocketFolder(path: string): boolean {
  try {
    return mkdirSync(dirname(path), { recursive: true, mode: 0o700 }) !== undefined;
  } catch (cause) {
    const isDenied = systemCode(cause) === 'EACCES' || systemCode(cause) === 'EPERM';
    const code = isDenied ? 'address-denied' : 'address-unavailable';
    const message = `cannot listen on ${escapeText(path)}: its folder cannot be made: ${describeError(cause)}`;
    throw new VproxyError(code, message, { cause });
  }
}
