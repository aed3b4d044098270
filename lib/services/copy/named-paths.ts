/**
 * Paths as users name them, and the folder that a side may be confined to: for the peer, whatever lies outside does not exist,
 * however it is named.
 *
 * Remote paths follow scp(1): `/srv/in` is absolute, all others are relative to the home directory of the user that vproxy runs
 * as there. `notes.txt` and `~/notes.txt` are the same, `~alice/notes.txt` is in another user's home directory, and the empty
 * path is the home directory itself. The caller sends them unchanged; the side that has the files resolves them.
 */
import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { badArgument, systemCode, toVproxyError, VproxyError } from '../../errors.js';
import type { Accounts, UserAccount } from '../../system/accounts.js';
import { withoutFinalSlashes } from '../../util/addresses/paths.js';
import type { CopySource } from './copy-messages.js';
import { refused } from './system-files.js';
import { isPlainName, MAX_PATH_BYTES, showPath } from './tar/names.js';

export const isFromHome = (path: string): boolean => !path.startsWith('/');

/** Throws `bad-argument` for a path longer than the peer accepts. */
export function requireNameable(path: string): void {
  const bytes = Buffer.byteLength(path);
  if (bytes <= MAX_PATH_BYTES) return;
  throw badArgument(`path too long: ${bytes} bytes (max ${MAX_PATH_BYTES})`);
}

/** A local path as a source, made absolute. Throws `bad-argument` if it has no name of its own, such as `/`. */
export function nameSource(path: string): CopySource {
  const absolute = resolve(path);
  const name = basename(absolute);
  if (!isPlainName(name)) throw badArgument(`${showPath(path)}: no name to copy it under`);
  return { path: absolute, name };
}

/** A remote path as a source. Throws `bad-argument` if it has no name of its own, such as `/` or a home directory. */
export function nameRemoteSource(path: string): CopySource {
  requireNameable(path);
  if (!isFromHome(path)) return nameSource(path);
  const plain = withoutFinalSlashes(path);
  const name = plain.slice(plain.lastIndexOf('/') + 1);
  if (/^(?:~[^/]*)?$/.test(plain)) {
    const what =
      'a home directory has no name to copy it under; name a file in it, such as vm1:notes.txt, or use its absolute path';
    throw badArgument(`"${showPath(path)}": ${what}`);
  }
  if (!isPlainName(name)) throw badArgument(`"${showPath(path)}": no name to copy it under`);
  return { path: plain, name };
}

/** Limit on the users whose home directories a request may name: each may be a question to a directory service. */
const MAX_USERS = 32;

/** Home directories of this machine. An account is looked up once: a request may name thousands of paths. */
export class Homes {
  readonly #root: string | null;
  readonly #accounts: Accounts;
  /** By name; the empty one is that of the user that this process runs as. */
  readonly #found = new Map<string, UserAccount | null>();

  /** `root` is the folder that copies are confined to; null: anywhere. */
  constructor(root: string | null, accounts: Accounts) {
    this.#root = root;
    this.#accounts = accounts;
  }

  /**
   * Makes a path named by the peer absolute. A home directory gets a trailing slash, as it is a folder. Rejects with
   * `copy-refused` for an unknown user, and `copy-failed` if accounts cannot be looked up or the user that this process runs as
   * has no home directory; if copies are confined to a folder, with `denied` for all of these.
   */
  async resolve(path: string): Promise<string> {
    if (!isFromHome(path)) return path;
    const [, user = '', rest = ''] = /^~([^/]*)(\/.*)?$/s.exec(path) ?? [null, '', `/${path}`];
    try {
      return `${await this.#find(user)}${rest === '' ? '/' : rest}`;
    } catch (error) {
      // A peer that may see only one folder must not learn who has an account here.
      throw this.#root === null ? toVproxyError(error, 'copy-failed') : denied();
    }
  }

  async #find(user: string): Promise<string> {
    const uid = process.geteuid?.() ?? 0;
    let account = this.#found.get(user);
    if (account === undefined) {
      if (this.#found.size > MAX_USERS) throw refused(`~${user}`, `more than ${MAX_USERS} home directories`);
      account = await (user === '' ? this.#accounts.findUserById(uid) : this.#accounts.findUser(user));
      this.#found.set(user, account);
    }
    if (account?.home.startsWith('/') === true) return account.home;
    if (user !== '') throw refused(`~${user}`, 'no such user, or the user has no home directory');
    throw new VproxyError('copy-failed', `user ${uid} has no home directory; use an absolute path`);
  }
}

/** Throws `denied`, without details, for a path outside `root` or that leads out of it by a link; null allows any path. */
export async function requireAllowed(path: string, root: string | null): Promise<void> {
  if (root === null) return;
  const folder = await realpath(root).catch(() => null);
  if (folder === null || !isWithin(await resolveFully(path), folder)) throw denied();
}

export const denied = (): VproxyError => new VproxyError('denied', 'path not allowed');

/** The path with links resolved; components that do not exist are kept. */
async function resolveFully(path: string): Promise<string> {
  const absolute = resolve(path);
  const missing: string[] = [];
  for (let existing = absolute; ; existing = dirname(existing)) {
    try {
      return join(await realpath(existing), ...missing);
    } catch (error) {
      // The target of a dangling link, or anything below an unreadable folder, is unknown.
      if (systemCode(error) !== 'ENOENT' || (await isLink(existing)) || existing === dirname(existing)) throw denied();
      missing.unshift(basename(existing));
    }
  }
}

const isLink = async (path: string): Promise<boolean> =>
  (await lstat(path).catch(() => null))?.isSymbolicLink() === true;

export const isWithin = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
