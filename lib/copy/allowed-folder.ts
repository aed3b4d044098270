/** The folder that a side may be kept to: what is outside of it, however it is named, does not exist for the peer. */
import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { systemCode, VproxyError } from '../errors.js';

/** Throws `denied`, without details, for a path that is not in `root` or leads out of it by a link; null allows any path. */
export async function requireAllowed(path: string, root: string | null): Promise<void> {
  if (root === null) return;
  const folder = await realpath(root).catch(() => null);
  if (folder === null || !isWithin(await resolveFully(path), folder)) throw denied();
}

export const denied = (): VproxyError => new VproxyError('denied', 'this path is not allowed');

/** The path without links; what does not exist of it is kept as it is. */
async function resolveFully(path: string): Promise<string> {
  const absolute = resolve(path);
  const missing: string[] = [];
  for (let existing = absolute; ; existing = dirname(existing)) {
    try {
      return join(await realpath(existing), ...missing);
    } catch (error) {
      // What a dangling link leads to, or what is below a folder that may not be read, is not known.
      if (systemCode(error) !== 'ENOENT' || (await isLink(existing)) || existing === dirname(existing)) throw denied();
      missing.unshift(basename(existing));
    }
  }
}

const isLink = async (path: string): Promise<boolean> =>
  (await lstat(path).catch(() => null))?.isSymbolicLink() === true;

const isWithin = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
