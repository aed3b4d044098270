/** The files left by an earlier copy. */
import { createReadStream, type Stats } from 'node:fs';
import { chmod, lstat, opendir, rmdir } from 'node:fs/promises';
import { COPY_KIND, encodeMessage, STAGED_BOUNDS, type StagedFile } from '../copy-messages.js';
import type { ComparisonCount } from '../copy-progress.js';
import { type KeptCount, type KeptLists, keptBytes } from '../kept-list.js';
import { BLOCK_BYTES } from '../read-entry.js';
import type { RecordStream } from '../record-stream.js';
import { removeTree, withPath } from '../system-files.js';
import { type CopyTarget, statOf } from '../targets.js';

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
  const found = await findStaged(records, targets, lists.list(bounds));
  comparing.begin(found.reduce((sum, { bytes }) => sum + bytes, 0));
  let files: StagedFile[] = [];
  let bytesOfRecord = 0;
  const flush = async (): Promise<void> => {
    if (files.length > 0) await records.send(encodeMessage(COPY_KIND.STAGED, { files }));
    files = [];
    bytesOfRecord = 0;
  };
  for (const { target, name, bytes } of found) {
    const path = target.stage + name.slice(target.root.name.length);
    const blocks = createReadStream(path, { highWaterMark: BLOCK_BYTES });
    const hash = await withPath(path, () => comparing.hash(blocks));
    const file: StagedFile = [name, bytes, hash.toString('hex')];
    files.push(file);
    bytesOfRecord += JSON.stringify(file).length;
    if (bytesOfRecord >= RECORD_BYTES) await flush();
  }
  await flush();
}

/** A file of an earlier copy. Its path is not stored: there may be 200,000 of them. */
interface Found {
  readonly target: CopyTarget;
  /** Its name in the tar. */
  readonly name: string;
  readonly bytes: number;
}

/** Finds the files that fit into `kept`. */
async function findStaged(
  records: RecordStream,
  targets: readonly CopyTarget[],
  kept: KeptCount,
): Promise<readonly Found[]> {
  const found: Found[] = [];
  for (const target of targets) {
    await findFiles(target, kept, (name, bytes) => {
      records.check();
      found.push({ target, name, bytes });
    });
  }
  return found;
}

type OnFound = (name: string, bytes: number) => void;

async function findFiles({ root, stage }: CopyTarget, kept: KeptCount, onFound: OnFound): Promise<void> {
  const stats = await statOf(stage, lstat);
  if (stats === null) return;
  const isUsable = isOwn(stats) && (root.kind === 'file' ? stats.isFile() : stats.isDirectory());
  if (!isUsable) await removeTree(stage);
  else if (root.kind === 'file') await takeFile(stage, root.name, stats, kept, onFound);
  else await takeFolder(stage, root.name, kept, onFound);
}

async function takeFolder(folder: string, name: string, kept: KeptCount, onFound: OnFound): Promise<void> {
  await chmod(folder, 0o700);
  const folders: string[] = [];
  for await (const child of await opendir(folder)) {
    const path = `${folder}/${child.name}`;
    const stats = await lstat(path);
    if (stats.isFile()) await takeFile(path, `${name}/${child.name}`, stats, kept, onFound);
    else if (stats.isDirectory() && kept.hasRoom(keptBytes(child.name))) {
      kept.add(keptBytes(child.name));
      folders.push(child.name);
    } else await removeTree(path);
  }
  // Only after this folder is closed: nesting may exceed the number of descriptors.
  for (const child of folders) {
    kept.remove(keptBytes(child));
    const count = kept.count;
    await takeFolder(`${folder}/${child}`, `${name}/${child}`, kept, onFound);
    if (kept.count === count) await rmdir(`${folder}/${child}`);
  }
}

async function takeFile(path: string, name: string, stats: Stats, kept: KeptCount, onFound: OnFound): Promise<void> {
  const bytes = keptBytes(name);
  if (stats.nlink !== 1 || !isOwn(stats) || stats.size === 0 || !kept.hasRoom(bytes)) {
    await removeTree(path);
    return;
  }
  kept.add(bytes);
  await chmod(path, 0o600);
  onFound(name, stats.size);
}

/** Files created by another user cannot be trusted, or cannot be changed. */
const isOwn = ({ uid }: Stats): boolean => process.getuid === undefined || uid === process.getuid();

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
