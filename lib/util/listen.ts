/** Listening on a TCP port or a unix socket file, with the errors that people can act on. */
import { once } from 'node:events';
import { lstatSync, type Stats, unlinkSync } from 'node:fs';
import net from 'node:net';
import { dirname } from 'node:path';
import { type ErrorCode, systemCode, VproxyError } from '../errors.js';
import { findAddressOwner } from './address-owner.js';
import { describeError } from './describe-error.js';
import { escapeText } from './escape.js';
import { formatHostPort, type HostPort } from './host-port.js';
import { type PinnedFile, withPinnedFile } from './pinned-file.js';
import type { FileAccess } from './socket-access.js';

/** Where to listen: a TCP address (port 0 picks one), or the path of a unix socket and who may connect to it. */
export type ListenAddress =
  | HostPort
  | {
      /** The path of a unix socket. */
      readonly path: string;
      /** Who may connect to it. Default: who runs this process. */
      readonly access?: FileAccess;
    };

/**
 * Makes `server` listen; resolved when it does. A socket file is the owner's alone (mode 0600) unless `access` says
 * otherwise, and never more open than that, not for a moment. It goes when the server closes; one that is there already
 * is replaced only if it is a socket on which nobody answers. Rejects with `address-in-use` (which says who has the
 * address, if that can be known), `address-denied` or `address-unavailable`.
 */
export async function listen(server: net.Server, address: ListenAddress): Promise<void> {
  const where = 'path' in address ? escapeText(address.path) : formatHostPort(address);
  try {
    if ('path' in address) await removeStaleFile(address.path);
    const listening = once(server, 'listening');
    if ('path' in address) bindPrivately(server, address.path, address.access ?? OWNER_ONLY);
    else server.listen(address.port, address.host);
    await listening;
  } catch (error) {
    if (error instanceof VproxyError) throw error;
    const code = LISTEN_CODES[systemCode(error)] ?? 'address-unavailable';
    const owner = code === 'address-in-use' ? await findAddressOwner(address) : null;
    const what = owner === null ? describeError(error) : `it is taken by ${owner}`;
    throw new VproxyError(code, `cannot listen on ${where}: ${what}`, { cause: error });
  }
}

/** Removes a socket file on which nobody answers; leaves every other file and throws. */
async function removeStaleFile(path: string): Promise<void> {
  // The bind below reports a folder that is not there as one without permission.
  if (lookAt(dirname(path)) === undefined) {
    throw new VproxyError('address-unavailable', `cannot listen on ${escapeText(path)}: the folder does not exist`);
  }
  const found = lookAt(path);
  if (found === undefined) return;
  if (!found.isSocket()) {
    throw new VproxyError('address-in-use', `cannot listen on ${escapeText(path)}: it exists and is not a socket`);
  }
  if (await isAnswered(path)) {
    const owner = (await findAddressOwner({ path })) ?? 'another process';
    throw new VproxyError('address-in-use', `cannot listen on ${escapeText(path)}: it is taken by ${owner}`);
  }
  // Somebody else may have replaced it while we asked; nothing can come between these two calls and the bind but
  // another process, and for that one the bind fails.
  if (isSameFile(lookAt(path), found)) unlinkSync(path);
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

/**
 * Binds under a umask that gives others nothing: a chmod alone would leave a moment in which they can connect. Node binds
 * a path before `listen` returns, so only a file that the thread pool makes in this moment sees that umask; it
 * leaves the owner's rights whole, so that such a file, or folder, is merely not shared.
 */
function bindPrivately(server: net.Server, path: string, access: FileAccess): void {
  let umask: number | null = null;
  try {
    umask = process.umask(0o077);
  } catch {
    // A worker thread cannot set it.
  }
  try {
    server.listen({ path });
  } finally {
    if (umask !== null) process.umask(umask);
  }
  if (!server.listening) return;
  try {
    withPinnedFile(path, (file) => giveAccess(file, access));
  } catch (error) {
    server.close();
    throw error;
  }
}

/** Gives a socket file that was just made its mode and its owners. */
function giveAccess(file: PinnedFile, { mode, uid, gid }: FileAccess): void {
  const { stats } = file;
  // Whoever owns the folder can have put another file there, to have that one opened to others.
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

const LISTEN_CODES: Readonly<Record<string, ErrorCode>> = {
  EADDRINUSE: 'address-in-use',
  EACCES: 'address-denied',
  EPERM: 'address-denied',
};
