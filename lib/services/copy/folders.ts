/** Reads folders for a copy in parts, so that neither a large folder nor a deep tree is ever held as a whole. */
import { isUtf8 } from 'node:buffer';
import type { Dirent } from 'node:fs';
import { opendir } from 'node:fs/promises';
import { systemCode } from '../../errors.js';
import { Turns } from '../../util/concurrency.js';
import { refused } from './system-files.js';
import { compareNames } from './tar/names.js';

/** An entry of a folder; `other` is a socket, a FIFO or a device. */
export interface FolderItem {
  readonly name: string;
  readonly kind: 'file' | 'folder' | 'link' | 'other';
  /** Its name if that is not UTF-8. */
  readonly bytes?: Buffer;
}

/** The name by which the system knows it. */
export const nameOf = ({ name, bytes }: FolderItem): string | Buffer => bytes ?? name;

/** The next items of a folder. */
interface Part {
  readonly items: Heap;
  readonly isLast: boolean;
}

interface OpenFolder {
  path: string;
  items: Heap;
  isLast: boolean;
  /** Whether the last read found anything. */
  hadItems: boolean;
  /** The last name handed out. */
  after: string;
}

/** Bound on the names that one walk holds. */
const MAX_BYTES = 2_097_152;

/** An item without its text: an object, a string, and an array slot. */
const ITEM_BYTES = 96;

const bytesOf = ({ name }: FolderItem): number => ITEM_BYTES + 2 * name.length;

/** Items per read, which takes less than a millisecond. */
const AT_ONCE = 256;

/** Reads of all copies take turns, so that many of them do not complete in one turn of the event loop. */
const reads = new Turns(2);

/** Reads the first items after `after`, sorted by name. Rejects with `copy-refused` if a name is not UTF-8. */
export async function readSorted(path: string, after: string, maxBytes: number, shown = path): Promise<Part> {
  const first = new Heap((a, b) => compareNames(b.name, a.name));
  let isLast = true;
  await readItems(path, (item) => {
    if (item.bytes !== undefined) throw refused(`${shown}/${item.name}`, 'name is not UTF-8');
    if (compareNames(item.name, after) <= 0) return;
    if (!isLast && compareNames(item.name, first.top?.name ?? '') > 0) return;
    first.push(item);
    for (; first.bytes > maxBytes && first.size > 1; isLast = false) first.pop();
  });
  return { items: first.reordered((a, b) => compareNames(a.name, b.name)), isLast };
}

/** Reads items in any order, for a caller that removes each from the folder before it asks for more. */
export async function readAny(path: string, _after: string, maxBytes: number): Promise<Part> {
  const items = new Heap(() => 0);
  const isLast = await readItems(
    path,
    (item) => items.push(item),
    () => items.bytes >= maxBytes / 4,
  );
  return { items, isLast };
}

/** The character that invalid bytes are decoded to; a valid name may have it, too. */
export const REPLACEMENT = '\ufffd';

/** A folder whose entries have names of bytes. */
export interface ByteFolder {
  read(): Promise<Dirent<Buffer> | null>;
  close(): Promise<void>;
}

/**
 * Opens a folder. Node itself looks at an entry whose kind the file system does not tell, by the name that it gives: by bytes, it
 * finds each.
 */
export async function openByteFolder(path: string | Buffer, bufferSize: number): Promise<ByteFolder> {
  // Missing in the types of Node.
  const encoding = 'buffer' as BufferEncoding;
  return (await opendir(path, { bufferSize, encoding })) as unknown as ByteFolder;
}

/** Whether an error is that of a look at an entry, also if Node looked at it. */
export const isOfEntry = (error: unknown): boolean =>
  error instanceof Error && 'syscall' in error && error.syscall === 'lstat';

/** Calls `take` for every item; returns false if `isEnough` stopped it early. */
export async function readItems(
  path: string,
  take: (item: FolderItem) => void,
  isEnough = () => false,
): Promise<boolean> {
  const folder = await openByteFolder(path, AT_ONCE);
  try {
    for (;;) {
      const count = await reads.run(null, () => readSome(folder, take));
      if (count < AT_ONCE) return true;
      if (isEnough()) return false;
    }
  } finally {
    await folder.close();
  }
}

/** Handles the next items, up to a limit; returns their number. Asynchronous, because a read can block on a slow file system. */
async function readSome(folder: ByteFolder, take: (item: FolderItem) => void): Promise<number> {
  for (let count = 0; count < AT_ONCE; count += 1) {
    const entry = await folder.read();
    if (entry === null) return count;
    const item = { name: entry.name.toString(), kind: kindOf(entry) };
    take(!item.name.includes(REPLACEMENT) || isUtf8(entry.name) ? item : { ...item, bytes: entry.name });
  }
  return AT_ONCE;
}

/** Nested folders; the innermost is read. Above the bound, names of outer folders are dropped and read again later. */
export class FolderStack {
  readonly #read: typeof readSorted;
  readonly #folders: OpenFolder[] = [];

  constructor(read: typeof readSorted) {
    this.#read = read;
  }

  get depth(): number {
    return this.#folders.length;
  }

  get path(): string {
    return this.#innermost?.path ?? '';
  }

  get #innermost(): OpenFolder | null {
    return this.#folders.at(-1) ?? null;
  }

  push(path: string): void {
    this.#folders.push({ path, items: NOTHING, isLast: false, hadItems: false, after: '' });
  }

  /** Leaves the innermost folder; `path` leads to the one above, if not the same as before. */
  pop(path: string | null = null): void {
    this.#folders.pop();
    this.#moveTo(path);
  }

  /** The next item of the innermost folder; null after the last, or if the folder was removed. */
  async next(): Promise<FolderItem | null> {
    return (await this.#peek()) === null ? null : this.#give();
  }

  /** Like `next`, for sorted items before `name`; null once `name` and all before it are passed. */
  async nextBefore(name: string): Promise<FolderItem | null> {
    const item = await this.#peek();
    const order = item === null ? 1 : compareNames(item.name, name);
    if (order <= 0) this.#give();
    if (order < 0) return item;
    if (this.#innermost !== null) this.#innermost.after = name;
    return null;
  }

  /** Reads the innermost folder again. False if it was empty last time. */
  reread(path: string | null = null): boolean {
    this.#moveTo(path);
    const folder = this.#innermost;
    if (folder?.hadItems !== true) return false;
    folder.isLast = false;
    return true;
  }

  #moveTo(path: string | null): void {
    if (path !== null && this.#innermost !== null) this.#innermost.path = path;
  }

  async #peek(): Promise<FolderItem | null> {
    const folder = this.#innermost;
    if (folder === null) return null;
    if (folder.items.size === 0 && !folder.isLast) await this.#fill(folder);
    return folder.items.top;
  }

  #give(): FolderItem | null {
    const folder = this.#innermost;
    const item = folder?.items.pop() ?? null;
    if (folder !== null && item !== null) folder.after = item.name;
    return item;
  }

  async #fill(folder: OpenFolder): Promise<void> {
    let bytes = this.#folders.reduce((sum, { items }) => sum + items.bytes, 0);
    for (const outer of this.#folders) {
      if (bytes <= MAX_BYTES / 2) break;
      bytes -= outer.items.bytes;
      drop(outer);
    }
    const { items, isLast } = await this.#read(folder.path, folder.after, MAX_BYTES - bytes).catch(emptyIfMissing);
    Object.assign(folder, { items, isLast, hadItems: items.size > 0 });
  }
}

function drop(folder: OpenFolder): void {
  if (folder.items.size === 0) return;
  folder.items = NOTHING;
  folder.isLast = false;
}

function emptyIfMissing(error: unknown): Part {
  if (systemCode(error) === 'ENOENT' && !isOfEntry(error)) return { items: NOTHING, isLast: true };
  throw error;
}

function kindOf(entry: Dirent<Buffer>): FolderItem['kind'] {
  if (entry.isFile()) return 'file';
  if (entry.isDirectory()) return 'folder';
  return entry.isSymbolicLink() ? 'link' : 'other';
}

/** A binary heap; the first item by `compare` is at the top. */
class Heap {
  readonly #compare: (a: FolderItem, b: FolderItem) => number;
  readonly #items: FolderItem[];
  #bytes = 0;

  constructor(compare: (a: FolderItem, b: FolderItem) => number, items: FolderItem[] = [], bytes = 0) {
    this.#compare = compare;
    this.#items = items;
    this.#bytes = bytes;
    for (let at = items.length >> 1; at > 0; at -= 1) this.#sink(at - 1);
  }

  get size(): number {
    return this.#items.length;
  }

  get bytes(): number {
    return this.#bytes;
  }

  get top(): FolderItem | null {
    return this.#items[0] ?? null;
  }

  /** Moves the items into a heap with another order. */
  reordered(compare: (a: FolderItem, b: FolderItem) => number): Heap {
    return new Heap(compare, this.#items.splice(0), this.#bytes);
  }

  push(item: FolderItem): void {
    this.#bytes += bytesOf(item);
    let at = this.#items.push(item) - 1;
    for (let above = (at - 1) >> 1; at > 0 && this.#isBefore(at, above); above = (at - 1) >> 1) {
      this.#swap(at, above);
      at = above;
    }
  }

  pop(): FolderItem | null {
    const { top } = this;
    const last = this.#items.pop();
    if (top === null || last === undefined) return null;
    this.#bytes -= bytesOf(top);
    if (last !== top) {
      this.#items[0] = last;
      this.#sink(0);
    }
    return top;
  }

  #sink(from: number): void {
    for (let at = from; ; ) {
      const left = 2 * at + 1;
      const first = left + 1 < this.size && this.#isBefore(left + 1, left) ? left + 1 : left;
      if (first >= this.size || !this.#isBefore(first, at)) return;
      this.#swap(first, at);
      at = first;
    }
  }

  #isBefore(one: number, other: number): boolean {
    return this.#compare(this.#items[one] as FolderItem, this.#items[other] as FolderItem) < 0;
  }

  #swap(one: number, other: number): void {
    const item = this.#items[one] as FolderItem;
    this.#items[one] = this.#items[other] as FolderItem;
    this.#items[other] = item;
  }
}

/** For folders that have not been read. */
const NOTHING = new Heap(() => 0);
