/**
 * Paths as users name them, and the folder that a side may be confined to: for the peer, whatever lies outside does not exist,
 * however it is named.
 *
 * Remote paths follow scp(1): `/srv/in` is absolute, all others are relative to the home directory of the user that vproxy runs
 * as there. `notes.txt` and `~/notes.txt` are the same, `~alice/notes.txt` is in another user's home directory, and the empty
 * path is the home directory itself. The caller sends them unchanged; the side that has the files resolves them.
 */
import { lstat, readlink, realpath } from 'node:fs/promises';
import { basename, isAbsolute, join, resolve, sep } from 'node:path';
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

/** Of a path, as Linux has it. */
const MAX_LINKS = 40;

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

/** Throws `denied`, without details, for a path outside `root`, or that leads out of it or nowhere by a link; null allows any path. */
export async function requireAllowed(path: string, root: string | null): Promise<void> {
  if (root === null) return;
  await resolveAllowed(path, root).catch(() => {
    throw denied();
  });
}

/**
 * Resolves with the path without its links; components that do not exist are kept. Throws `denied` for what leads out of `root`, and
 * the error of the system for what leads nowhere inside: through a file, or by a link. `path` may be one of bytes.
 */
export async function resolveAllowed(path: string, root: string, encoding: BufferEncoding = 'utf8'): Promise<string> {
  const folder = await realpath(root, encoding).catch(() => null);
  let names = resolve(path).split(sep);
  const first = (count: number): Buffer => Buffer.from(names.slice(0, count).join(sep) || sep, encoding);
  const real = (count: number): Promise<string | null> => realpath(first(count), encoding).catch(() => null);
  /** Resolves with a path that was found, if it is inside. */
  const inside = (found: string | null): string => {
    if (found === null || folder === null || !isWithin(found, folder)) throw denied();
    return found;
  };
  const whole = await real(names.length);
  if (whole !== null) return inside(whole);
  for (let [end, linkCount] = [names.length, 0]; ; ) {
    // How many names are there; in few steps, as each takes longer the more there are. Usually only the last is missing.
    let [there, missing, why] = [1, end + 1, 'ENOENT'];
    for (let step = 1; missing - there > 1; step *= 2) {
      const count = Math.max((there + missing) >> 1, missing - step);
      const code = await lstat(first(count)).then(() => '', systemCode);
      if (code === '') there = count;
      else [missing, why] = [count, code];
    }
    const found = await real(there);
    if (found !== null) {
      inside(found);
      if (why !== 'ENOENT' || (linkCount > 0 && there < names.length)) throw systemError(why);
      return join(found, ...names.slice(there));
    }
    // A link that leads nowhere, perhaps outside. Or it is gone by now, with all that was below it.
    const above = await real(there - 1);
    const target = await readlink(first(there), encoding).catch(() => null);
    end = there - 1;
    if (above === null || target === null) continue;
    inside(above);
    linkCount += 1;
    if (linkCount > MAX_LINKS) throw systemError('ELOOP');
    names = [...(isAbsolute(target) ? '' : above).split(sep), ...target.split(sep), ...names.slice(there)];
    end = names.length;
  }
}

export const denied = (): VproxyError => new VproxyError('denied', 'path not allowed');

/** An error of the system that it would have reported. */
export const systemError = (code: string): Error => Object.assign(new Error(code), { code });

export const isWithin = (path: string, folder: string): boolean =>
  path === folder || path.startsWith(folder.endsWith(sep) ? folder : folder + sep);
