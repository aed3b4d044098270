/** The files left by an earlier copy. */
import fs, { type Stats } from 'node:fs';
import { chmod, lstat, opendir, rmdir } from 'node:fs/promises';
import { promisify } from 'node:util';
import { systemCode } from '../../../errors.js';
import { openOrdinary } from '../../../system/descriptors.js';
import { COPY_KIND, encodeMessage, STAGED_BOUNDS, type StagedFile } from '../copy-messages.js';
import type { ComparisonCount } from '../copy-progress.js';
import { type FolderItem, REPLACEMENT, readItems } from '../folders.js';
import { type KeptCount, type KeptLists, keptBytes } from '../kept-list.js';
import { readBlocks } from '../read-entry.js';
import type { RecordStream } from '../record-stream.js';
import { withPath } from '../system-files.js';
import type { CopyTarget } from '../targets.js';
import { canResume, entryPath, HeldFolder, isOwn, O_PATH, pathOf } from './held-folder.js';
import { removeTree } from './remove.js';

const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
const close = promisify(fs.close);
const fstat = promisify(fs.fstat);

/** The size at which a record is sent, in bytes; the longest path, fully escaped, fits into the rest. */
const RECORD_BYTES = 131_072;

/**
 * Reports the staged files to the sender, and makes them writable. Everything else is removed, so that the part stays within the
 * limits of the report: links, empty files and folders, files of other users, and those beyond the limits.
 */
export async function reportStaged(
  records: RecordStream,
  targets: readonly CopyTarget[],
  lists: KeptLists,
  comparing: ComparisonCount,
  bounds = STAGED_BOUNDS,
): Promise<void> {
  const kept = lists.list(bounds);
  const parts: { readonly target: CopyTarget; readonly found: readonly Found[] }[] = [];
  for (const target of targets) {
    const found: Found[] = [];
    await findFiles(target, kept, (name, bytes) => {
      records.check();
      found.push({ name, bytes });
    });
    if (found.length > 0) parts.push({ target, found });
  }
  comparing.begin(parts.flatMap(({ found }) => found).reduce((sum, { bytes }) => sum + bytes, 0));
  let files: StagedFile[] = [];
  let bytesOfRecord = 0;
  const flush = async (): Promise<void> => {
    if (files.length > 0) await records.send(encodeMessage(COPY_KIND.STAGED, { files }));
    files = [];
    bytesOfRecord = 0;
  };
  for (const { target, found } of parts) {
    await inPart(target, async (part) => {
      for (const { name, bytes } of found) {
        const below = name.slice(target.root.name.length);
        const hash = await withPath(target.path + below, () => hashFile(part + below, bytes, comparing));
        // It is sent again.
        if (hash === null) continue;
        const file: StagedFile = [name, bytes, hash.toString('hex')];
        files.push(file);
        bytesOfRecord += JSON.stringify(file).length;
        if (bytesOfRecord >= RECORD_BYTES) await flush();
      }
    });
  }
  await flush();
}

/** A file of an earlier copy, by its name in the tar. Its path is not stored: there may be 200,000 of them. */
interface Found {
  readonly name: string;
  readonly bytes: number;
}

/** Calls `use` with a path to a part. False if it should be a folder, and is not one of this user. */
const inPart = ({ root, stage, path }: CopyTarget, use: (path: string) => Promise<void>): Promise<boolean> =>
  withPath(path, async () => {
    const folder = root.kind === 'folder' ? await HeldFolder.openOwn(stage) : null;
    if (root.kind === 'folder' && folder === null) return false;
    try {
      await use(folder?.path ?? stage);
      return true;
    } finally {
      await folder?.close();
    }
  });

/** The SHA-256 of the first bytes of a file; null if somebody has replaced it. */
async function hashFile(path: string, bytes: number, comparing: ComparisonCount): Promise<Buffer | null> {
  const fd = await openOrdinary(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  try {
    const stats = await fstat(fd);
    if (!canResume(stats) || stats.size < bytes) return null;
    return await comparing.hash(readBlocks({ fd, path, contents: null }, 0, bytes));
  } finally {
    await close(fd);
  }
}

type OnFound = (name: string, bytes: number) => void;

async function findFiles(target: CopyTarget, kept: KeptCount, onFound: OnFound): Promise<void> {
  const { name, kind } = target.root;
  const find = kind === 'file' ? findFile : findInFolder;
  if (!(await inPart(target, (part) => find(part, name, kept, onFound)))) await removeTree(target.stage);
}

/** A part that is a file is in a folder where others may replace it. */
async function findFile(path: string, name: string, kept: KeptCount, onFound: OnFound): Promise<void> {
  const fd = await openOrdinary(path, O_PATH | O_NOFOLLOW).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  });
  if (fd === null) return;
  try {
    if (!(await addFile(pathOf(fd), name, await fstat(fd), kept, onFound))) await removeTree(path);
  } finally {
    await close(fd);
  }
}

/** Takes the files of a folder that only this user can change. */
async function findInFolder(folder: string, name: string, kept: KeptCount, onFound: OnFound): Promise<void> {
  await chmod(folder, 0o700);
  const folders: string[] = [];
  const take = async (child: string): Promise<void> => {
    const path = `${folder}/${child}`;
    const stats = await lstat(path);
    if (stats.isDirectory() && isOwn(stats) && kept.hasRoom(keptBytes(child))) {
      kept.add(keptBytes(child));
      folders.push(child);
    } else if (!(await addFile(path, `${name}/${child}`, stats, kept, onFound))) await removeTree(path);
  };
  let isInDoubt = false;
  for await (const child of await opendir(folder)) {
    if (child.name.includes(REPLACEMENT)) isInDoubt = true;
    else await take(child.name);
  }
  if (isInDoubt) {
    await removeNonUtf8(folder);
    for await (const child of await opendir(folder)) if (child.name.includes(REPLACEMENT)) await take(child.name);
  }
  // Only after this folder is closed: nesting may exceed the number of descriptors.
  for (const child of folders) {
    kept.remove(keptBytes(child));
    const count = kept.count;
    await findInFolder(`${folder}/${child}`, `${name}/${child}`, kept, onFound);
    if (kept.count === count) await rmdir(`${folder}/${child}`);
  }
}

/** Removes entries whose names are not UTF-8: no copy creates them. */
async function removeNonUtf8(folder: string): Promise<void> {
  for (;;) {
    const found: Buffer[] = [];
    const take = ({ bytes }: FolderItem): void => {
      if (bytes !== undefined) found.push(bytes);
    };
    await readItems(folder, take, () => found.length >= 1000);
    if (found.length === 0) return;
    for (const name of found) await removeTree(entryPath(folder, name));
  }
}

/** Takes a file with these stats; false if it cannot be resumed. */
async function addFile(path: string, name: string, stats: Stats, kept: KeptCount, onFound: OnFound): Promise<boolean> {
  const bytes = keptBytes(name);
  if (!canResume(stats) || stats.size === 0 || !kept.hasRoom(bytes)) return false;
  kept.add(bytes);
  await chmod(path, 0o600);
  onFound(name, stats.size);
  return true;
}

/** For each file: its size as a double, and its SHA-256. */
const FACT_BYTES = 40;
const BYTES_BYTES = 8;

/** The whole or partial files that the peer already has. There may be 200,000: a name each, and one buffer for the rest. */
export class StagedList {
  readonly #count: KeptCount;
  readonly #indexes = new Map<string, number>();
  #facts = Buffer.allocUnsafeSlow(0);
  #totalBytes = 0;

  constructor(count: KeptCount) {
    this.#count = count;
  }

  /** The bytes of all files. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  /** Adds a file; the last report of a name counts. Throws like {@link KeptCount.add}. */
  add([name, bytes, sha256]: StagedFile): void {
    let index = this.#indexes.get(name);
    if (index === undefined) {
      this.#count.add(keptBytes(name));
      index = this.#indexes.size;
      this.#indexes.set(name, index);
      this.#makeRoom(index + 1);
    } else this.#totalBytes -= this.#facts.readDoubleBE(FACT_BYTES * index);
    this.#totalBytes += bytes;
    this.#facts.writeDoubleBE(bytes, FACT_BYTES * index);
    this.#facts.write(sha256, FACT_BYTES * index + BYTES_BYTES, 'hex');
  }

  /** The size and SHA-256 of the peer's part of a file; null if it has none. */
  find(name: string): { readonly bytes: number; readonly sha256: Buffer } | null {
    const index = this.#indexes.get(name);
    if (index === undefined) return null;
    const facts = this.#facts.subarray(FACT_BYTES * index, FACT_BYTES * (index + 1));
    return { bytes: facts.readDoubleBE(0), sha256: facts.subarray(BYTES_BYTES) };
  }

  #makeRoom(count: number): void {
    if (FACT_BYTES * count <= this.#facts.length) return;
    const facts = Buffer.allocUnsafeSlow(Math.max(FACT_BYTES * count, 2 * this.#facts.length));
    this.#facts.copy(facts);
    this.#facts = facts;
  }
}
