/** What an earlier copy has left. */
import { createHash } from 'node:crypto';
import { createReadStream, type Stats } from 'node:fs';
import { chmod, lstat, opendir, rmdir } from 'node:fs/promises';
import { copyError } from './copy-error.js';
import { type KeptCount, type KeptLists, keptBytes } from './kept-list.js';
import { COPY_KIND, encodeMessage, STAGED_BOUNDS, type StagedFile } from './messages.js';
import { BLOCK_BYTES } from './read-entry.js';
import type { RecordStream } from './record-stream.js';
import { removeTree } from './remove-tree.js';
import { type CopyTarget, statOf } from './targets.js';

/** A record is sent when it has so many bytes: the longest path, with all of it escaped, fits into what is left of it. */
const RECORD_BYTES = 131_072;

/**
 * Tells the sender of what is there, and makes it writable. All else is removed, so that what the folders of the part hold
 * has the bounds of what is told of: links, empty files and folders, files of somebody else, and those beyond the bounds.
 */
export async function tellStaged(
  records: RecordStream,
  targets: readonly CopyTarget[],
  lists: KeptLists,
  bounds = STAGED_BOUNDS,
): Promise<void> {
  const kept = lists.list(bounds);
  let files: StagedFile[] = [];
  let bytesOfRecord = 0;
  const flush = async (): Promise<void> => {
    if (files.length > 0) await records.send(encodeMessage(COPY_KIND.STAGED, { files }));
    files = [];
    bytesOfRecord = 0;
  };
  for (const target of targets) {
    for await (const { path, name, bytes } of stagedFiles(target, kept)) {
      records.check();
      const file: StagedFile = [name, bytes, await hashFile(path)];
      files.push(file);
      bytesOfRecord += JSON.stringify(file).length;
      if (bytesOfRecord >= RECORD_BYTES) await flush();
    }
  }
  await flush();
}

interface Found {
  readonly path: string;
  /** In the tar. */
  readonly name: string;
  readonly bytes: number;
}

async function* stagedFiles({ root, stage }: CopyTarget, kept: KeptCount): AsyncGenerator<Found> {
  const stats = await statOf(stage, lstat);
  if (stats === null) return;
  const isUsable = isOwn(stats) && (root.kind === 'file' ? stats.isFile() : stats.isDirectory());
  if (!isUsable) await removeTree(stage);
  else if (root.kind === 'file') yield* stagedFile(stage, root.name, stats, kept);
  else yield* stagedFolder(stage, root.name, kept);
}

async function* stagedFolder(folder: string, name: string, kept: KeptCount): AsyncGenerator<Found> {
  await chmod(folder, 0o700);
  const folders: string[] = [];
  for await (const child of await opendir(folder)) {
    const path = `${folder}/${child.name}`;
    const stats = await lstat(path);
    if (stats.isFile()) yield* stagedFile(path, `${name}/${child.name}`, stats, kept);
    else if (stats.isDirectory() && kept.hasRoom(keptBytes(child.name))) {
      kept.add(keptBytes(child.name));
      folders.push(child.name);
    } else await removeTree(path);
  }
  // Behind that, when this one is closed: there may be more folders in one another than there are descriptors.
  for (const child of folders) {
    kept.remove(keptBytes(child));
    const count = kept.count;
    yield* stagedFolder(`${folder}/${child}`, `${name}/${child}`, kept);
    if (kept.count === count) await rmdir(`${folder}/${child}`);
  }
}

async function* stagedFile(path: string, name: string, stats: Stats, kept: KeptCount): AsyncGenerator<Found> {
  const bytes = keptBytes(name);
  if (stats.nlink !== 1 || !isOwn(stats) || stats.size === 0 || !kept.hasRoom(bytes)) {
    await removeTree(path);
    return;
  }
  kept.add(bytes);
  await chmod(path, 0o600);
  yield { path, name, bytes: stats.size };
}

/** What somebody else has put there is not to be trusted, or cannot be changed. */
const isOwn = ({ uid }: Stats): boolean => process.getuid === undefined || uid === process.getuid();

async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const block of createReadStream(path, { highWaterMark: BLOCK_BYTES })) hash.update(block as Buffer);
  } catch (error) {
    throw copyError(path, error);
  }
  return hash.digest('hex');
}
