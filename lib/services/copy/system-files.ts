/** The system calls that write a copy, as an object that tests can make fail; and the errors of a copy. */
import fs from 'node:fs';
import { chmod, lstat, rmdir, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { promisify } from 'node:util';
import { systemCode, toVproxyError, VproxyError } from '../../errors.js';
import { openOrdinary } from '../../system/descriptors.js';
import { Turns } from '../../util/concurrency.js';
import { describeError } from '../../util/escape.js';
import { type FolderItem, FolderStack, readAny } from './folders.js';
import { showPath } from './tar/names.js';

/** As in `node:fs`, with promises. Descriptors are numbers: for many small files, a FileHandle each costs more than the file. */
export interface CopyFiles {
  open(path: string, flags: number, mode?: number): Promise<number>;
  /** Writes once; resolves with the number of bytes written. */
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
 * Seconds as `utimes` takes them. A double resolves a quarter of a microsecond, and the system truncates to whole ones: adding a
 * little more loses no microsecond, however often a file is copied.
 */
export const secondsOf = (ns: bigint): number => {
  const belowSecond = ((ns % BILLION) + BILLION) % BILLION;
  const microseconds = belowSecond / 1000n;
  return Number((ns - belowSecond) / BILLION) + (Number(microseconds) + 0.3) / 1e6;
};

const BILLION = 1_000_000_000n;

const MAX_REMOVALS = 8;

/**
 * Removes a file, a link, or a folder with its contents, including folders that their owner may not write to. Removes entries as
 * it reads them, holding only part of the names. Does nothing if the path does not exist.
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
    else if (!folders.reread()) throw new VproxyError('copy-failed', `${showPath(folder)}: cannot be emptied`);
  }
}

/** Removes a folder. False if it is not empty. */
async function removeEmpty(folder: string): Promise<boolean> {
  try {
    await orMissing(rmdir(folder));
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOTEMPTY' || systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

/** Runs an operation in a folder; if permission is denied, once more after making the folder writable. */
async function inWritable<T>(folder: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (systemCode(error) !== 'EACCES') throw error;
    await chmod(folder, 0o700);
    return work();
  }
}

/** Resolves with null on ENOENT. */
async function orMissing<T>(work: Promise<T>): Promise<T | null> {
  try {
    return await work;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    throw error;
  }
}

/** `copy-failed` with the path and the system's message; a VproxyError unchanged. */
export function copyError(path: string, error: unknown): VproxyError {
  if (error instanceof VproxyError) return error;
  if (systemCode(error) === '') return toVproxyError(error);
  return new VproxyError('copy-failed', `${showPath(path)}: ${describeError(error)}`, { cause: error });
}

/** Runs an operation on a file; wraps system errors with {@link copyError}. */
export async function withPath<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw copyError(path, error);
  }
}

export const refused = (path: string, why: string): VproxyError =>
  new VproxyError('copy-refused', `${showPath(path)}: ${why}`);
