/** What an earlier copy has left. */
import { createHash } from 'node:crypto';
import { createReadStream, type Stats } from 'node:fs';
import { chmod, lstat, readdir } from 'node:fs/promises';
import { copyError } from './copy-error.js';
import { COPY_KIND, encodeMessage, MAX_STAGED_FILES, type StagedFile } from './messages.js';
import { BLOCK_BYTES } from './read-entry.js';
import type { RecordStream } from './record-stream.js';
import { removeTree } from './remove-tree.js';
import { type CopyTarget, statOf } from './targets.js';

/** A record is sent when it has so many bytes: the longest path, with all of it escaped, fits into what is left of it. */
const RECORD_BYTES = 131_072;

/** Tells the sender of all that is there, and makes it writable. What cannot be of use is removed. */
export async function tellStaged(records: RecordStream, targets: readonly CopyTarget[]): Promise<void> {
  let files: StagedFile[] = [];
  let count = 0;
  let bytesOfRecord = 0;
  const flush = async (): Promise<void> => {
    if (files.length > 0) await records.send(encodeMessage(COPY_KIND.STAGED, { files }));
    files = [];
    bytesOfRecord = 0;
  };
  for (const target of targets) {
    for await (const { path, name, bytes } of stagedFiles(target)) {
      records.check();
      count += 1;
      if (bytes === 0 || count > MAX_STAGED_FILES) continue;
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

async function* stagedFiles({ root, stage }: CopyTarget): AsyncGenerator<Found> {
  const stats = await statOf(stage, lstat);
  if (stats === null) return;
  const isUsable = isOwn(stats) && (root.kind === 'file' ? stats.isFile() : stats.isDirectory());
  if (!isUsable) await removeTree(stage);
  else if (root.kind === 'file') yield* stagedFile(stage, root.name, stats);
  else yield* stagedFolder(stage, root.name);
}

async function* stagedFolder(folder: string, name: string): AsyncGenerator<Found> {
  await chmod(folder, 0o700);
  for (const child of await readdir(folder)) {
    const path = `${folder}/${child}`;
    const stats = await lstat(path);
    if (stats.isDirectory()) yield* stagedFolder(path, `${name}/${child}`);
    else if (stats.isFile()) yield* stagedFile(path, `${name}/${child}`, stats);
  }
}

async function* stagedFile(path: string, name: string, stats: Stats): AsyncGenerator<Found> {
  if (stats.nlink !== 1 || !isOwn(stats)) {
    await removeTree(path);
    return;
  }
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
