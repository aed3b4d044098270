/** Folders held by their descriptors: an entry is looked up in the folder that was checked, wherever its path leads by now. */
import fs, { type Stats } from 'node:fs';
import { basename, dirname } from 'node:path';
import { promisify } from 'node:util';
import { systemCode, VproxyError } from '../../../errors.js';
import { openOrdinary } from '../../../system/descriptors.js';

const { O_DIRECTORY, O_NOFOLLOW } = fs.constants;

/** Opens what can then be looked at, but not read: a link itself, and whatever needs permissions. */
export const O_PATH = 0o10_000_000;

const close = promisify(fs.close);
const fstat = promisify(fs.fstat);
const lstat = promisify(fs.lstat) as (path: string | Buffer) => Promise<Stats>;

/** A folder, from which one goes down by names, and up again to where one came from. */
export class HeldFolder {
  #fd: number;
  readonly #above: string[] = [];

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Opens a folder; by default not through a link. Rejects with ENOTDIR for anything else. */
  static async open(path: string | Buffer, flags = O_NOFOLLOW): Promise<HeldFolder> {
    return new HeldFolder(await openOrdinary(path, O_PATH | O_DIRECTORY | flags));
  }

  /** Opens a folder like {@link openAt}. */
  static async openAt(path: string): Promise<HeldFolder> {
    return new HeldFolder(await openAt(path, O_PATH | O_DIRECTORY));
  }

  /** A folder of this user, which from now on no other can change anything in; null if there is none. */
  static async openOwn(path: string): Promise<HeldFolder | null> {
    let folder: HeldFolder;
    try {
      folder = await HeldFolder.open(path);
    } catch (error) {
      if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return null;
      throw error;
    }
    if (isOwn(await folder.stats())) {
      await chmod(folder.path, 0o700);
      return folder;
    }
    await folder.close();
    return null;
  }

  /** A path to the folder; a final `/.` would need permission to look something up in it. */
  get path(): string {
    return pathOf(this.#fd);
  }

  stats(): Promise<Stats> {
    return fstat(this.#fd);
  }

  /** Enters the folder of this name; not through a link. */
  async down(name: string | Buffer): Promise<void> {
    const from = await this.stats();
    const fd = await openOrdinary(entryPath(this.path, name), O_PATH | O_DIRECTORY | O_NOFOLLOW);
    this.#above.push(identityOf(from));
    await this.#move(fd);
  }

  /** Goes back to the folder that this one was entered from; `leave` gets a path to this one. */
  async up(leave: (path: string) => Promise<void> = () => Promise.resolve()): Promise<void> {
    const fd = await openOrdinary(`${this.path}/..`, O_PATH | O_DIRECTORY);
    try {
      if (identityOf(await fstat(fd)) !== this.#above.at(-1)) {
        throw new VproxyError('copy-failed', 'a folder was moved during the copy');
      }
      await leave(this.path);
    } catch (error) {
      await close(fd);
      throw error;
    }
    this.#above.pop();
    await this.#move(fd);
  }

  close(): Promise<void> {
    return close(this.#fd);
  }

  async #move(fd: number): Promise<void> {
    const before = this.#fd;
    this.#fd = fd;
    await close(before);
  }
}

const chmod = promisify(fs.chmod);

export const pathOf = (fd: number): string => `/proc/self/fd/${fd}`;

export const entryPath = (folder: string, name: string | Buffer): string | Buffer =>
  typeof name === 'string' ? `${folder}/${name}` : Buffer.concat([Buffer.from(`${folder}/`), name]);

const identityOf = ({ dev, ino }: Stats): string => `${dev} ${ino}`;

/** Opens what is at a path that had no links when it was found, and not what one leads to that somebody has put there since. */
export async function openAt(path: string, flags: number): Promise<number> {
  const fd = await openOrdinary(path, flags | O_NOFOLLOW);
  try {
    if (await isAt(fd, path.replace(/^\/+/, '/'))) return fd;
    throw new VproxyError('copy-failed', 'a folder of its path was replaced during the copy');
  } catch (error) {
    await close(fd);
    throw error;
  }
}

async function isAt(fd: number, path: string): Promise<boolean> {
  try {
    // The system answers at once.
    if (fs.readlinkSync(pathOf(fd)) === path) return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') throw new VproxyError('copy-failed', 'copies need /proc');
  }
  // Where case does not matter, the system may know it by another name.
  const folder = await HeldFolder.open('/');
  try {
    for (const name of dirname(path).split('/')) if (name !== '') await folder.down(name);
    return identityOf(await lstat(entryPath(folder.path, basename(path)))) === identityOf(await fstat(fd));
  } finally {
    await folder.close();
  }
}

/** Has `look` look at an entry at a path as {@link openAt} opens one. */
export async function lookAt<T>(path: string, look: (path: string) => Promise<T>): Promise<T> {
  const folder = await HeldFolder.openAt(dirname(path));
  try {
    return await look(`${folder.path}/${basename(path)}`);
  } finally {
    await folder.close();
  }
}

/** Files of other users cannot be trusted, or cannot be changed. */
export const isOwn = ({ uid }: Stats): boolean => process.geteuid === undefined || uid === process.geteuid();

/** Whether a file is one that only this user can have written. */
export const canResume = (stats: Stats): boolean => stats.isFile() && stats.nlink === 1 && isOwn(stats);
