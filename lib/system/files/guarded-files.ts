/** Files in places that others can change: one that is held by itself, and not by its name; one that holds a secret; new ones in a folder that nobody else can change; and one path for each. */
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
import { describeError, escapeText } from '../../util/escape.js';

/** Linux' `O_PATH`, for which Node has no name: a descriptor for any kind of file, which opens nothing. */
const O_PATH = 0o10000000;

/** What is changed is the file that was at the path when it was pinned. */
export interface PinnedFile {
  readonly stats: Stats;
  /** A path that leads to it while it is pinned. */
  readonly link: string;
  /** Throws an error of the system, also where there is no /proc, or Node's permission model does not allow it. */
  chmod(mode: number): void;
  /** -1 leaves one as it is. Throws as `chmod` does. */
  chown(uid: number, gid: number): void;
}

/** What `work` gives for the file at a path; a symbolic link is that file itself. Throws an error of the system. */
export function withPinnedFile<T>(path: string, work: (file: PinnedFile) => T): T {
  const fd = openSync(path, O_PATH | constants.O_NOFOLLOW);
  // The calls on descriptors take none of this kind; its link leads to the file, whatever the names of it are by now.
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

// Files that hold a secret: read only where nobody else can read them.

/** The text of a small file that its owner alone can read; where that is root, also a group that this process is in. Throws `bad-file`, which names the file and shows nothing of it. */
export function readSecretFile(path: string, maxBytes = 4096): string {
  const bad = (why: string, cause?: unknown) => new VproxyError('bad-file', `${escapeText(path)}: ${why}`, { cause });
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw bad(describeError(error), error);
  }
  try {
    const { mode, uid } = fstatSync(fd);
    const self = process.getuid?.();
    if ((mode & 0o170_000) !== 0o100_000) throw bad('it is no file');
    if (uid !== 0 && uid !== self) throw bad(`it belongs to another user (${uid})`);
    // So systemd hands credentials to the user of a service: they are root's, and an ACL shows as a group that may read.
    const isRoots = uid === 0 && self !== 0;
    if ((mode & (isRoots ? 0o037 : 0o077)) !== 0) {
      throw bad(`others can read or change it (mode ${(mode & 0o777).toString(8).padStart(4, '0')}); chmod 600 it`);
    }
    const bytes = Buffer.alloc(maxBytes + 1);
    const count = readSync(fd, bytes);
    const text = bytes.toString('latin1', 0, count);
    bytes.fill(0);
    if (count > maxBytes) throw bad(`it has more than ${maxBytes} bytes`);
    return text;
  } finally {
    closeSync(fd);
  }
}

// New files in a folder that nobody else can change.

/** Throws `bad-file`, which names the folder, where it is missing, is a link, or somebody else could change what is in it. */
export function requireOwnFolder(folder: string): void {
  closeSync(openOwnFolder(folder));
}

/** Makes a file of mode 0600 in such a folder, and opens it for appending. Throws as `requireOwnFolder` does. */
export function createInOwnFolder(folder: string, name: string): number {
  const folderFd = openOwnFolder(folder);
  const { O_WRONLY, O_APPEND, O_CREAT, O_EXCL, O_NOFOLLOW } = constants;
  try {
    // In the folder that was looked at, whatever is at its path by now.
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
    throw bad(isOther ? 'it is no folder, or a link to one' : describeError(cause), cause);
  }
  const { mode, uid } = fstatSync(fd);
  const why =
    uid !== 0 && uid !== process.getuid?.()
      ? `it belongs to another user (${uid})`
      : (mode & 0o022) !== 0
        ? `others can write to it (mode ${(mode & 0o777).toString(8).padStart(4, '0')}); chmod 700 it`
        : null;
  if (why === null) return fd;
  closeSync(fd);
  throw bad(why);
}

/** The path of a file, whether it is there or not, without links in it, as far as this user may look; a relative one is in `folder`. */
export function canonicalPath(path: string, folder: string): string {
  const absolute = resolve(folder, path);
  const parent = dirname(absolute);
  return realPathOf(absolute) ?? join(realPathOf(parent) ?? parent, basename(absolute));
}

/** Null where it is missing, or may not be looked at. */
function realPathOf(path: string): string | null {
  try {
    return realpathSync(path);
  } catch {
    return null;
  }
}
