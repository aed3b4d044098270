/** A file that is held by itself, and not by its name: in a folder of another user, another file may get the name at any time. */
import { chmodSync, chownSync, closeSync, constants, fstatSync, openSync, type Stats } from 'node:fs';

/** Linux' `O_PATH`, for which Node has no name: a descriptor for any kind of file, which opens nothing. */
const O_PATH = 0o10000000;

/** Whatever is changed is the file that was at the path when it was pinned. */
export interface PinnedFile {
  readonly stats: Stats;
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
      chmod: (mode) => chmodSync(link, mode),
      chown: (uid, gid) => chownSync(link, uid, gid),
    });
  } finally {
    closeSync(fd);
  }
}
