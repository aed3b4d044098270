/** A file that is being received. */
import fs from 'node:fs';
import { promisify } from 'node:util';
import { protocolError, systemCode } from '../../../errors.js';
import { type CopyFiles, secondsOf, withPath } from '../system-files.js';
import type { CopyEntry } from '../tar/entry.js';
import { canResume } from './held-folder.js';
import { removeTree } from './remove.js';

export interface Place {
  readonly staged: string;
  /** Its final path, for messages. */
  readonly shown: string;
}

/** How many bytes to gather while the disk is busy. */
export const GATHERED_BYTES = 1_048_576;

/** A file continued where an earlier copy stopped, or written from the beginning. */
export class StagedFile {
  readonly #files: CopyFiles;
  readonly #fd: number;
  readonly #shown: string;
  #position: number;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #writing: Promise<void> | null = null;

  private constructor(files: CopyFiles, fd: number, position: number, shown: string) {
    this.#files = files;
    this.#fd = fd;
    this.#position = position;
    this.#shown = shown;
  }

  /** Opens the file at the entry's offset. Rejects with `protocol-error` if its size is not that offset. */
  static async open(files: CopyFiles, { staged, shown }: Place, { offset }: CopyEntry): Promise<StagedFile> {
    const fd = await withPath(shown, () => (offset > 0 ? openAt(files, staged, offset) : create(files, staged)));
    return new StagedFile(files, fd, offset, shown);
  }

  /** Takes bytes; null if there is room for more, else a promise of room. Rejects if they cannot be written. */
  write(bytes: Buffer): Promise<void> | null {
    this.#waiting.push(bytes);
    this.#waitingBytes += bytes.length;
    if (this.#writing === null && this.#waitingBytes >= GATHERED_BYTES / 4) {
      this.#writing = this.#writeOut();
      // The next caller that waits for it gets the failure.
      this.#writing.catch(() => undefined);
    }
    return this.#writing !== null && this.#waitingBytes >= GATHERED_BYTES ? this.#writing : null;
  }

  /** Writes the rest, sets the file's time and permissions, and closes it: a file system may only then find that it has no room. */
  async finish({ mode, mtimeNs }: CopyEntry): Promise<void> {
    await withPath(this.#shown, async () => {
      try {
        await this.#flush();
        await this.#files.futimes(this.#fd, Date.now() / 1000, secondsOf(mtimeNs));
        await this.#files.fchmod(this.#fd, mode);
      } catch (error) {
        await this.#files.close(this.#fd).catch(() => undefined);
        throw error;
      }
      await this.#files.close(this.#fd);
    });
  }

  /** Identifies the file for as long as it is open. */
  async inode(): Promise<number> {
    return (await fstat(this.#fd)).ino;
  }

  /** Keeps the received part as far as possible, and closes the file. */
  async abandon(): Promise<void> {
    // A later copy checks the part by its hash.
    await this.#flush().catch(() => undefined);
    await this.#files.close(this.#fd).catch(() => undefined);
  }

  async #flush(): Promise<void> {
    await this.#writing;
    await this.#writeOut();
  }

  async #writeOut(): Promise<void> {
    while (this.#waitingBytes > 0) {
      const buffers = this.#waiting;
      this.#waiting = [];
      this.#waitingBytes = 0;
      await withPath(this.#shown, () => this.#writeAll(buffers));
    }
    this.#writing = null;
  }

  async #writeAll(buffers: Buffer[]): Promise<void> {
    for (let rest = buffers; rest.length > 0; ) {
      let written = await this.#files.write(this.#fd, rest, this.#position);
      this.#position += written;
      let index = 0;
      for (; index < rest.length && written >= (rest[index]?.length ?? 0); index++) written -= rest[index]?.length ?? 0;
      rest = rest.slice(index);
      if (rest[0] !== undefined) rest[0] = rest[0].subarray(written);
    }
  }
}

const { O_WRONLY, O_CREAT, O_EXCL, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
const fstat = promisify(fs.fstat);

async function create(files: CopyFiles, path: string): Promise<number> {
  const flags = O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW;
  try {
    return await files.open(path, flags, 0o600);
  } catch (error) {
    if (systemCode(error) !== 'EEXIST') throw error;
    // Left by an earlier copy, and not resumed.
    await removeTree(path);
    return await files.open(path, flags, 0o600);
  }
}

async function openAt(files: CopyFiles, path: string, offset: number): Promise<number> {
  // Without O_NONBLOCK, opening a FIFO would block.
  const fd = await files.open(path, O_WRONLY | O_NOFOLLOW | O_NONBLOCK).catch((error: unknown) => {
    // Nothing, a link, or a FIFO.
    if (['ENOENT', 'ELOOP', 'ENXIO'].includes(systemCode(error))) return null;
    throw error;
  });
  const stats = fd === null ? null : await fstat(fd);
  if (fd !== null && stats?.size === offset && canResume(stats)) return fd;
  if (fd !== null) await files.close(fd);
  throw protocolError('copy: the peer resumes a file that does not exist here');
}
