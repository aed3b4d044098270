/** Writes an archive in the cpio "newc" format, which the kernel unpacks as its first file system. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { posix } from 'node:path';

/** An archive being written to a file; everything in it belongs to root. Paths are absolute. */
export class CpioWriter {
  readonly #fd: number;
  readonly #paths = new Set<string>(['/']);
  #inode = 1;

  constructor(path: string) {
    this.#fd = openSync(path, 'wx');
  }

  /** Whether the archive has an entry at `path`. */
  has(path: string): boolean {
    return this.#paths.has(path);
  }

  /** Adds a folder, and the folders above it. */
  addFolder(path: string, mode = 0o755): void {
    if (this.has(path)) return;
    this.addFolder(posix.dirname(path));
    this.#write(path, 0o040000 | mode, Buffer.alloc(0));
  }

  /** Adds a file, and the folders above it. */
  addFile(path: string, content: Buffer | string, mode = 0o644): void {
    this.addFolder(posix.dirname(path));
    this.#write(path, 0o100000 | mode, Buffer.from(content));
  }

  /** Adds a symbolic link at `path`, and the folders above it. */
  addLink(path: string, target: string): void {
    this.addFolder(posix.dirname(path));
    this.#write(path, 0o120777, Buffer.from(target));
  }

  /** Adds a character device, and the folders above it. */
  addDevice(path: string, major: number, minor: number): void {
    this.addFolder(posix.dirname(path));
    this.#write(path, 0o020600, Buffer.alloc(0), [major, minor]);
  }

  /** Ends the archive and closes the file. */
  close(): void {
    this.#write('TRAILER!!!', 0, Buffer.alloc(0));
    closeSync(this.#fd);
  }

  #write(path: string, mode: number, content: Buffer, device: readonly [number, number] = [0, 0]): void {
    this.#paths.add(path);
    const name = Buffer.from(`${path.replace(/^\//, '')}\0`);
    const fields = [this.#inode, mode, 0, 0, 1, 0, content.length, 0, 0, ...device, name.length, 0];
    this.#inode += 1;
    const header = Buffer.from(`070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}`);
    const head = Buffer.concat([header, name]);
    writeAll(this.#fd, Buffer.concat([head, padding(head.length)]));
    writeAll(this.#fd, content);
    writeAll(this.#fd, padding(content.length));
  }
}

function padding(length: number): Buffer {
  return Buffer.alloc((4 - (length % 4)) % 4);
}

function writeAll(fd: number, bytes: Buffer): void {
  for (let offset = 0; offset < bytes.length; ) offset += writeSync(fd, bytes, offset);
}
