/** Open folders: an entry is looked up in the folder that was checked, even if its path leads elsewhere by now. */
import fs, { type Stats } from 'node:fs';
import { basename, dirname } from 'node:path';
import { promisify } from 'node:util';
import { systemCode, VproxyError } from '../../../errors.js';
import { openOrdinary } from '../../../system/descriptors.js';
import { showPath } from '../tar/names.js';

/** Linux's `O_PATH`, which Node does not define: needs no permission for the entry itself, and opens links, too. */
export const O_PATH = 0o10_000_000;

const FOLDER = O_PATH | fs.constants.O_DIRECTORY;
const { O_NOFOLLOW } = fs.constants;
const chmod = promisify(fs.chmod);
const close = promisify(fs.close);
const fstat = promisify(fs.fstat);

/** An open folder, which `down` and `up` replace with another one. */
export class HeldFolder {
  #fd: number;
  readonly #above: string[] = [];

  private constructor(fd: number) {
    this.#fd = fd;
  }

  /** Opens a folder; by default not through a final link. Rejects with ENOTDIR for anything else. */
  static async open(path: string | Buffer, flags = O_NOFOLLOW): Promise<HeldFolder> {
    return new HeldFolder(await openOrdinary(path, FOLDER | flags));
  }

  /** Opens a folder by a path that contained no links earlier, and may be one of bytes. Rejects if it does now. */
  static async openAt(path: string, encoding: BufferEncoding = 'utf8'): Promise<HeldFolder> {
    const folder = await HeldFolder.open(Buffer.from(path, encoding));
    try {
      if (await folder.#isAt(path.replace(/^\/+/, '/'), encoding)) return folder;
      throw new VproxyError('copy-failed', `${showPath(path)}: a folder of the path was replaced during the copy`);
    } catch (error) {
      await folder.close();
      throw error;
    }
  }

  /** Opens a folder of this user, and makes it inaccessible to others. Null if there is none. */
  static async openOwn(path: string): Promise<HeldFolder | null> {
    let folder: HeldFolder;
    try {
      folder = await HeldFolder.open(path);
    } catch (error) {
      if (systemCode(error) === 'ENOENT' || systemCode(error) === 'ENOTDIR') return null;
      throw error;
    }
    let isPrivate = false;
    try {
      if (!isOwn(await folder.stats())) return null;
      await chmod(folder.path, 0o700);
      isPrivate = true;
      return folder;
    } finally {
      if (!isPrivate) await folder.close();
    }
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
    const above = identityOf(await this.stats());
    await this.#move(await openOrdinary(entryPath(this.path, name), FOLDER | O_NOFOLLOW));
    this.#above.push(above);
  }

  /** Returns to the folder that this one was entered from; `leave` gets a path to this one. */
  async up(leave: (path: string) => Promise<void> = () => Promise.resolve()): Promise<void> {
    const fd = await openOrdinary(`${this.path}/..`, FOLDER);
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

  async #isAt(path: string, encoding: BufferEncoding): Promise<boolean> {
    try {
      // Synchronous: it never waits for a disk.
      if (fs.readlinkSync(this.path, encoding) === path) return true;
    } catch (error) {
      if (systemCode(error) === 'ENOENT') throw new VproxyError('copy-failed', 'copies need /proc');
    }
    // On a file system that ignores case, the kernel may know it by another name.
    const found = await HeldFolder.open('/');
    try {
      for (const name of path.split('/')) if (name !== '') await found.down(Buffer.from(name, encoding));
      return identityOf(await found.stats()) === identityOf(await this.stats());
    } finally {
      await found.close();
    }
  }
}

export const pathOf = (fd: number): string => `/proc/self/fd/${fd}`;

export const entryPath = (folder: string, name: string | Buffer): string | Buffer =>
  typeof name === 'string' ? `${folder}/${name}` : Buffer.concat([Buffer.from(`${folder}/`), name]);

const identityOf = ({ dev, ino }: Stats): string => `${dev} ${ino}`;

/** Calls `look` with a path to an entry, in its folder as {@link HeldFolder.openAt} opens it. */
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
