/** The system calls that write a copy, as an object that tests can make fail; and the errors of a copy. */
import fs from 'node:fs';
import { promisify } from 'node:util';
import { systemCode, toVproxyError, VproxyError } from '../../errors.js';
import { openOrdinary } from '../../system/descriptors.js';
import { describeError } from '../../util/escape.js';
import { showPath } from './tar/names.js';

/** As in `node:fs`, with promises. Descriptors are numbers: for many small files, a FileHandle each costs more than the file. */
export interface CopyFiles {
  open(path: string, flags: number, mode?: number): Promise<number>;
  /** Writes once; resolves with the number of bytes written. */
  write(fd: number, buffers: readonly Buffer[], position: number): Promise<number>;
  futimes(fd: number, atime: number, mtime: string): Promise<void>;
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
 * Seconds for `utimes`, as text: it takes a negative number for the current time. A double resolves half a microsecond, and is cut
 * to whole ones, towards 0: adding half of one keeps them exact, however often a file is copied.
 */
export const secondsOf = (ns: bigint): string => {
  // Towards 0, too: newer versions of Node keep the half, and a merged folder gets its own time again.
  const microseconds = ns / 1000n;
  const half = microseconds < 0n ? -0.5 : 0.5;
  return String(Number(microseconds / MILLION) + (Number(microseconds % MILLION) + half) / 1e6);
};

const MILLION = 1_000_000n;

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
