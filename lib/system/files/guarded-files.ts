/** Files in places that others can change: pinned files, secrets, new files in a private folder, and canonical paths. */

import {
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fstatSync,
  openSync,
  readSync,
  realpathSync,
  type Stats,
} from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { systemCode, VproxyError } from '../../errors.js';
import { REMEDIES } from '../../remedies.js';
import { describeError, escapeText } from '../../util/escape.js';
import { orElse } from '../../util/or-else.js';

/** Linux's `O_PATH`, which Node does not define: a descriptor for any kind of file, without opening it. */
const O_PATH = 0o10000000;

/** A file pinned by its inode: changes apply to the file that was at the path when it was pinned. */
export interface PinnedFile {
  readonly stats: Stats;
  /** A path that leads to the file while it is pinned. */
  readonly link: string;
  /** Throws a system error, also without /proc, or if Node's permission model forbids it. */
  chmod(mode: number): void;
  /** -1 leaves an owner unchanged. Throws like `chmod`. */
  chown(uid: number, gid: number): void;
}

/** Runs `work` on the file at a path; a symbolic link counts as the file itself. Throws a system error. */
export function withPinnedFile<T>(path: string, work: (file: PinnedFile) => T): T {
  const fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
  // fchmod and fchown reject O_PATH descriptors; the /proc link leads to the file, whatever its names are by now.
  const link = `/proc/self/fd/${fd}`;
  try {
    return work({
      stats: fstatSync(fd),
      link,
      chmod: (mode) => chmodSync(link, mode),
      chown: (uid, gid) => chownSync(link, uid, gid),
    });
  } finally {
    closeSync(fd);
  }
}

// Small files, among them those that hold a secret.

/**
 * The text of a small file readable only by its owner, this user or root; if root, also by a group of this process. Throws
 * `bad-file`.
 */
export const readSecretFile = (path: string, maxBytes = 4096, userId = process.getuid?.()): string =>
  readSmallFile(path, maxBytes, (stats) => whyNotSecret(stats, userId));

/** The text of a file, with a character for each byte. Throws `bad-file`, also for anything but a regular file, and if `whyNot` says why. */
export function readSmallFile(path: string, maxBytes: number, whyNot?: (stats: Stats) => string | null): string {
  const bad = (why: string, cause?: unknown) => new VproxyError('bad-file', `${escapeText(path)}: ${why}`, { cause });
  let fd: number | null = null;
  try {
    // Without waiting for the writer of a FIFO.
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = fstatSync(fd);
    if (!stats.isFile()) throw bad('not a regular file');
    const fault = whyNot?.(stats) ?? null;
    if (fault !== null) throw bad(fault);
    const bytes = Buffer.alloc(maxBytes + 1);
    const count = readSync(fd, bytes);
    const text = bytes.toString('latin1', 0, count);
    bytes.fill(0);
    if (count > maxBytes) throw bad(`longer than ${maxBytes} bytes`);
    return text;
  } catch (error) {
    throw error instanceof VproxyError ? error : bad(describeError(error), error);
  } finally {
    if (fd !== null) closeSync(fd);
  }
}

function whyNotSecret({ mode, uid }: Stats, userId: number | undefined): string | null {
  if (uid !== 0 && uid !== userId) return `owned by another user (${uid})`;
  // systemd passes credentials to a service's user like this: owned by root, with an ACL that shows as group read access.
  const isRoots = uid === 0 && userId !== 0;
  if ((mode & (isRoots ? 0o037 : 0o077)) === 0) return null;
  const shown = (mode & 0o777).toString(8).padStart(4, '0');
  return `accessible to other users (mode ${shown}); ${REMEDIES['secret-file']['bad-file']}`;
}

// New files in a folder that no other user can change.

/** Throws `bad-file`, naming the folder, if it is missing, is a link, or another user could change its contents. */
export function requireOwnFolder(folder: string): void {
  closeSync(openOwnFolder(folder));
}

/** Creates a file of mode 0600 in such a folder, and opens it for appending. Throws like `requireOwnFolder`. */
export function createInOwnFolder(folder: string, name: string): number {
  const folderFd = openOwnFolder(folder);
  const { O_WRONLY, O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    // In the folder that was checked, whatever is at its path now.
    const path = `/proc/self/fd/${folderFd}/${name}`;
    return openSync(path, O_WRONLY | O_APPEND | O_CREAT | O_EXCL | O_NOFOLLOW, 0o600);
  } catch (cause) {
    throw new VproxyError('bad-file', `${escapeText(folder)}: ${describeError(cause)}`, { cause });
  } finally {
    closeSync(folderFd);
  }
}

function openOwnFolder(folder: string): number {
  const bad = (why: string, cause?: unknown) => new VproxyError('bad-file', `${escapeText(folder)}: ${why}`, { cause });
  let fd: number;
  try {
    fd = openSync(folder, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (cause) {
    const isOther = ['ENOTDIR', 'ELOOP'].includes(systemCode(cause));
    throw bad(isOther ? 'not a folder, or a link to one' : describeError(cause), cause);
  }
  const { mode, uid } = fstatSync(fd);
  const why =
    uid !== 0 && uid !== process.getuid?.()
      ? `owned by another user (${uid})`
      : (mode & 0o022) !== 0
        ? `writable by other users (mode ${(mode & 0o777).toString(8).padStart(4, '0')}); run chmod 700`
        : null;
  if (why === null) return fd;
  closeSync(fd);
  throw bad(why);
}

/** The absolute path of an existing or future file with links resolved as far as permissions allow. */
export function canonicalPath(path: string): string {
  const absolute = resolve(path);
  const parent = dirname(absolute);
  return realPathOf(absolute) ?? join(realPathOf(parent) ?? parent, basename(absolute));
}

/** Null if it is missing or not accessible. */
const realPathOf = (path: string): string | null => orElse(null, () => realpathSync(path));
