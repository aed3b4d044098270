/** The system calls that write a copy, as an object, so that a test can make them fail; and the errors of a copy. */
import fs from 'node:fs';
import { chmod, lstat, rmdir, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { systemCode, toVproxyError, VproxyError } from '../errors.js';
import { openOrdinary } from '../system/descriptors.js';
import { Turns } from '../util/concurrency.js';
import { describeError } from '../util/escape.js';
import { type FolderItem, FolderStack, readAny } from './folders.js';
import { showPath } from './tar/names.js';

/** Each as in `node:fs`, with a promise. Descriptors are numbers: a FileHandle for each of many small files costs more than its file. */
export interface CopyFiles {
  open(path: string, flags: number, mode?: number): Promise<number>;
  /** Writes once; resolves with the number of bytes that were written. */
  write(fd: number, buffers: readonly Buffer[], position: number): Promise<number>;
  futimes(fd: number, atime: number, mtime: number): Promise<void>;
  fchmod(fd: number, mode: number): Promise<void>;
  close(fd: number): Promise<void>;
  mkdir(path: string): Promise<void>;
  symlink(target: string, path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
}

const writev = promisify(fs.writev);
const write = promisify(fs.write);
const mkdir = promisify(fs.mkdir);

export const SYSTEM_FILES: CopyFiles = {
  open: openOrdinary,
  async write(fd, buffers, position) {
    const [first] = buffers;
    if (buffers.length === 1 && first !== undefined)
      return (await write(fd, first, 0, first.length, position)).bytesWritten;
    return (await writev(fd, [...buffers], position)).bytesWritten;
  },
  futimes: promisify(fs.futimes),
  fchmod: promisify(fs.fchmod),
  close: promisify(fs.close),
  mkdir: (path) => mkdir(path, 0o700),
  symlink: promisify(fs.symlink),
  rename: promisify(fs.rename),
};

/**
 * Seconds as `utimes` takes them. A double holds a quarter of a microsecond, and the system is given whole ones, cut: with
 * a little more, no microsecond is lost, however often a file is copied.
 */
export const secondsOf = (ns: bigint): number => {
  const belowSecond = ((ns % BILLION) + BILLION) % BILLION;
  const microseconds = belowSecond / 1000n;
  return Number((ns - belowSecond) / BILLION) + (Number(microseconds) + 0.3) / 1e6;
};

const BILLION = 1_000_000_000n;

const MAX_REMOVALS = 8;

/**
 * Removes a file, a link or a folder with all that is in it, also folders that their owner may not write to: as it is read, without
 * keeping more than a part of its names. Does nothing where the path does not exist.
 */
export async function removeTree(path: string): Promise<void> {
  const stats = await orMissing(lstat(path));
  if (stats === null) return;
  if (!stats.isDirectory()) {
    await orMissing(unlink(path));
    return;
  }
  const removal = new Turns(MAX_REMOVALS);
  try {
    await removeFolders(path, removal);
  } finally {
    await removal.idle();
  }
}

async function removeFolders(top: string, removal: Turns): Promise<void> {
  const folders = new FolderStack(readAny);
  const failures: unknown[] = [];
  const remove = (folder: string, { name }: FolderItem): Promise<void> =>
    inWritable(folder, () => orMissing(unlink(`${folder}/${name}`))).then(
      () => undefined,
      (error: unknown) => void failures.push(error),
    );
  folders.push(top);
  while (folders.depth > 0) {
    const folder = folders.path;
    const item = await inWritable(folder, () => folders.next());
    if (item === null) await removal.idle();
    if (failures.length > 0) throw failures[0];
    if (item?.kind === 'folder') folders.push(`${folder}/${item.name}`);
    else if (item !== null) await removal.start(() => remove(folder, item));
    else if (folder === top ? await removeEmpty(top) : await inWritable(dirname(folder), () => removeEmpty(folder)))
      folders.pop();
    else if (!folders.reread()) throw new VproxyError('copy-failed', `${showPath(folder)}: it cannot be emptied`);
  }
}

/** Removes a folder. False where something is in it. */
async function removeEmpty(folder: string): Promise<boolean> {
  try {
    await orMissing(rmdir(folder));
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOTEMPTY' || systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

/** Does something in a folder; where that is not allowed, again when its owner may write to it. */
async function inWritable<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (systemCode(error) !== 'EACCES') throw error;
    await chmod(folder, 0o700);
    return work();
  }
}

/** Null for what does not exist. */
async function orMissing<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** `copy-failed` with the path and the system's message; a VproxyError as it is. */
export function copyError(path: string, error: unknown): VproxyError {
  if (error instanceof VproxyError) return error;
  if (systemCode(error) === '') return toVproxyError(error);
  return new VproxyError('copy-failed', `${showPath(path)}: ${describeError(error)}`, { cause: error });
}

/** Does something with a file: what the system refuses is {@link copyError}. */
export async function withPath<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw copyError(path, error);
  }
}

export const refused = (path: string, why: string): VproxyError =>
  new VproxyError('copy-refused', `${showPath(path)}: ${why}`);
