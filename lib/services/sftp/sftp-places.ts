/** Where the paths of a client lead: in the folder that the service is confined to, through descriptors that were checked. */
import fs, { type Stats } from 'node:fs';
import { lstat, realpath } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { systemCode } from '../../errors.js';
import { openOrdinary } from '../../system/descriptors.js';
import { resolveAllowed, systemError } from '../copy/named-paths.js';
import { HeldFolder, O_PATH, pathOf } from '../copy/staging/held-folder.js';
import { MAX_PATH_BYTES } from '../copy/tar/names.js';

const close = promisify(fs.close);

/** A path of a client, whose characters are bytes, for calls to the system. */
export const bytesOf = (path: string): Buffer => Buffer.from(path, 'latin1');

/** A path of this program as one of a client. */
export const latinOf = (path: string): string => Buffer.from(path).toString('latin1');

/** Resolves the paths of one request; what it opened is open until `close`. */
export class SftpPlaces {
  /** Null: anywhere. */
  readonly #root: string | null;
  readonly #start: string;
  readonly #held: (() => Promise<void>)[] = [];

  /** Relative paths begin at `start`, whose characters are bytes. */
  constructor(root: string | null, start: string) {
    this.#root = root;
    this.#start = start;
  }

  get isConfined(): boolean {
    return this.#root !== null;
  }

  async close(): Promise<void> {
    for (const release of this.#held.splice(0)) await release();
  }

  /** A path to use for an entry, which may be a link. If confined, it leads through its open folder. */
  async name(path: string): Promise<Buffer> {
    const absolute = this.#absolute(path);
    const root = this.#root;
    if (root === null) return bytesOf(absolute);
    const plain = resolve(absolute);
    const name = basename(plain);
    return this.#through(async () => join(await resolveAllowed(dirname(plain), root, 'latin1'), name));
  }

  /** The same after links, for an entry that need not exist. If confined, it was not a link. */
  async target(path: string): Promise<Buffer> {
    const absolute = this.#absolute(path);
    const root = this.#root;
    if (root === null) return bytesOf(absolute);
    return this.#through(() => resolveAllowed(absolute, root, 'latin1'));
  }

  /** A path to what is there, after links. If confined, it is held open, whatever has its name by now. */
  async entry(path: string): Promise<Buffer> {
    const target = await this.target(path);
    if (this.#root === null) return target;
    const fd = await openOrdinary(target, O_PATH | fs.constants.O_NOFOLLOW);
    this.#held.push(() => close(fd));
    return Buffer.from(pathOf(fd));
  }

  /** The status of an entry, which may be a link. The folder itself, unlike its name, is inside. */
  async lstat(path: string): Promise<Stats> {
    const outside = (error: unknown): Promise<Buffer> => {
      if (systemCode(error) !== 'denied') throw error;
      return this.target(path);
    };
    return lstat(await this.name(path).catch(outside));
  }

  /** The path without links, whose last component may be missing. */
  async real(path: string): Promise<string> {
    const absolute = this.#absolute(path);
    if (this.#root !== null) {
      const real = await resolveAllowed(absolute, this.#root, 'latin1');
      await lstat(bytesOf(dirname(real)));
      return real;
    }
    try {
      return await realpath(bytesOf(absolute), 'latin1');
    } catch (error) {
      if (systemCode(error) !== 'ENOENT') throw error;
      const plain = resolve(absolute);
      return join(await realpath(bytesOf(dirname(plain)), 'latin1'), basename(plain));
    }
  }

  #absolute(path: string): string {
    const absolute = path.startsWith('/') ? path : `${this.#start}/${path}`;
    if (absolute.length > MAX_PATH_BYTES) throw systemError('ENAMETOOLONG');
    return absolute;
  }

  /** A path through the open folder of an entry. If one of the folders was replaced since it was resolved, it is resolved again. */
  async #through(find: () => Promise<string>): Promise<Buffer> {
    for (let left = MAX_REPLACED; ; left -= 1) {
      const found = await find();
      try {
        const folder = await HeldFolder.openAt(dirname(found), 'latin1');
        this.#held.push(() => folder.close());
        return bytesOf(`${folder.path}/${basename(found)}`);
      } catch (error) {
        if (left === 0 || !['ENOTDIR', 'copy-failed'].includes(systemCode(error))) throw error;
      }
    }
  }
}

/** Times that a path is resolved again. */
const MAX_REPLACED = 3;
