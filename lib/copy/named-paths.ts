/**
 * Paths as they are named, and the folder that a side may be kept to: what is outside of it, however it is named, does not exist for
 * the peer.
 *
 * Those of the other side: `/srv/in` from its root, all others from the home of the user that vproxy runs
 * as there, as with scp(1). `notes.txt` and `~/notes.txt` are the same, `~alice/notes.txt` is in the home of another user, and
 * the empty path is the home itself. The caller sends them as they are; the side that has the files resolves them.
 */
import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import { listUsers, PASSWD_FILE, type UserAccount } from '../system/accounts.js';
import { withoutFinalSlashes } from '../util/addresses.js';
import type { CopySource } from './copy-messages.js';
import { copyError, refused } from './system-files.js';
import { isPlainName, MAX_PATH_BYTES, showPath } from './tar/names.js';

export const isFromHome = (path: string): boolean => !path.startsWith('/');

/** Throws `bad-argument` for a path that is longer than the other side takes. */
export function requireNameable(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_PATH_BYTES) return;
  throw new VproxyError('bad-argument', `a path of ${bytes} bytes; it can have ${MAX_PATH_BYTES} at most`);
}

/**
 * A path as a source. Throws `bad-argument` for one that has no name of its own, such as `/`.
 * `resolve` makes it absolute, where the sender is here.
 */
export function nameSource(path: string): CopySource {
  const absolute = resolve(path);
  const name = basename(absolute);
  if (!isPlainName(name)) throw new VproxyError('bad-argument', `${showPath(path)}: it has no name to be copied under`);
  return { path: absolute, name };
}

/** A path of the other side as a source. Throws `bad-argument` for one that has no name of its own, such as `/` or a home. */
export function nameRemoteSource(path: string): CopySource {
  requireNameable(path);
  if (!isFromHome(path)) return nameSource(path);
  const plain = withoutFinalSlashes(path);
  const name = plain.slice(plain.lastIndexOf('/') + 1);
  if (/^(?:~[^/]*)?$/.test(plain)) {
    const what =
      'a home has no name to be copied under; name what is in it, as in vm1:notes.txt, or its path from the root';
    throw new VproxyError('bad-argument', `"${showPath(path)}": ${what}`);
  }
  if (!isPlainName(name)) {
    throw new VproxyError('bad-argument', `"${showPath(path)}": it has no name to be copied under`);
  }
  return { path: plain, name };
}

/** The homes of this machine; the file is read once, where one is asked for: a request may name thousands of paths. */
export class Homes {
  readonly #root: string | null;
  readonly #passwdFile: string;
  #accounts: ReadonlyMap<string, UserAccount> | null = null;
  #own: UserAccount | undefined;

  /** `root` is the folder that copies are kept to; null: anywhere. */
  constructor(root: string | null, passwdFile = PASSWD_FILE) {
    this.#root = root;
    this.#passwdFile = passwdFile;
  }

  /**
   * The absolute path of one that the peer names. A home ends in a slash, as it is a folder. Throws `copy-refused` for a user
   * who is not there, and `copy-failed` where the file cannot be read or has no home of the user that this process runs as;
   * where copies are kept to a folder, `denied` for all of these.
   */
  resolve(path: string): string {
    if (!isFromHome(path)) return path;
    const [, user = '', rest = ''] = /^~([^/]*)(\/.*)?$/s.exec(path) ?? [null, '', `/${path}`];
    try {
      return `${this.#find(user)}${rest === '' ? '/' : rest}`;
    } catch (error) {
      // Who has an account here is none of the business of one who may see a folder only.
      throw this.#root === null ? copyError(this.#passwdFile, error) : denied();
    }
  }

  /** The home of a user; of the one that this process runs as where `user` is empty. */
  #find(user: string): string {
    this.#accounts ??= new Map(listUsers(this.#passwdFile).map((account) => [account.name, account]));
    if (user !== '') {
      const account = this.#accounts.get(user);
      if (account?.home.startsWith('/') === true) return account.home;
      throw refused(`~${user}`, 'there is no such user, or none with a home');
    }
    const uid = process.geteuid?.();
    this.#own ??= [...this.#accounts.values()].find((one) => one.uid === uid);
    if (this.#own?.home.startsWith('/') === true) return this.#own.home;
    const what = `user ${uid ?? 'none'} has no home in ${this.#passwdFile}; name a path that begins with a slash`;
    throw new VproxyError('copy-failed', what);
  }
}

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
