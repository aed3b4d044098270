/** Reads an entry of a source: its kind and its bytes. */
import { isUtf8 } from 'node:buffer';
import fs from 'node:fs';
import { promisify } from 'node:util';
import { systemCode, VproxyError } from '../../errors.js';
import { openOrdinary } from '../../system/descriptors.js';
import type { Warn } from './kept-list.js';
import type { WalkedEntry } from './sources.js';
import { lookAt } from './staging/held-folder.js';
import { copyError, refused, withPath } from './system-files.js';
import { type CopyEntry, keptMode, requireLink } from './tar/entry.js';
import { showPath } from './tar/names.js';

const fstat = promisify(fs.fstat) as (fd: number, options: { bigint: true }) => Promise<fs.BigIntStats>;
const lstat = promisify(fs.lstat) as (path: string, options: { bigint: true }) => Promise<fs.BigIntStats>;
const readlink = promisify(fs.readlink);
const read = promisify(fs.read);
const close = promisify(fs.close);

/** Without O_NONBLOCK, opening a FIFO that has replaced the file would block. */
const READ = fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK;

/** Files up to this size are read at once, in bytes. */
export const WHOLE_BYTES = 65_536;

/** The block size for larger files, in bytes. */
export const BLOCK_BYTES = 262_144;

/** An entry after lstat, opened if it is a file. */
export interface ReadEntry extends CopyEntry {
  readonly path: string;
  /** The whole contents of a small file. */
  readonly contents: Buffer | null;
  /** The descriptor of a larger file, closed by {@link closeEntry}. */
  readonly fd: number | null;
  readonly stats: fs.BigIntStats;
}

/**
 * Stats an entry, opens it if it is a file, and reads a small one. Null, after a warning, if it was removed meanwhile.
 * Rejects like {@link readLink}.
 */
export async function readEntry(walked: WalkedEntry, warn: Warn, keepsLinks = false): Promise<ReadEntry | null> {
  try {
    return await (walked.kind === 'file' ? readFile(walked) : readOther(walked, keepsLinks));
  } catch (error) {
    const isMissing = systemCode(error) === 'ENOENT';
    // The replacement character: the decoder puts it where it finds invalid bytes.
    if (isMissing && walked.path.includes('\ufffd')) throw refused(walked.path, 'name is not UTF-8');
    if (!isMissing || walked.names.length === 1) throw copyError(walked.path, error);
    warn(`${showPath(walked.path)}: skipped: removed during the copy`);
    return null;
  }
}

/** The target of a link. Rejects with `copy-refused` if it cannot be copied as it is. */
export async function readLink({ path, names }: WalkedEntry, keepsLinks: boolean): Promise<string> {
  const bytes = await lookAt(path, (at) => readlink(at, 'buffer'));
  if (!isUtf8(bytes)) throw refused(path, 'link target is not UTF-8');
  requireLink(path, names, bytes.toString(), keepsLinks);
  return bytes.toString();
}

export async function closeEntry({ fd }: ReadEntry): Promise<void> {
  if (fd !== null) await closeRead(fd);
}

/** Once everything is read, an error of close(2) means nothing. */
const closeRead = (fd: number): Promise<void> => close(fd).catch(() => undefined);

/** Reads part of a file in blocks; the caller owns each buffer. Rejects if the file has become shorter. */
export async function* readBlocks(
  { fd, path, contents }: Pick<ReadEntry, 'fd' | 'path' | 'contents'>,
  from: number,
  to: number,
): AsyncGenerator<Buffer> {
  if (contents !== null) {
    if (to > from) yield contents.subarray(from, to);
    return;
  }
  if (fd === null) return;
  for (let at = from; at < to; ) {
    const block = Buffer.allocUnsafeSlow(Math.min(BLOCK_BYTES, to - at));
    const { bytesRead } = await withPath(path, () => read(fd, block, 0, block.length, at));
    if (bytesRead === 0) throw shrunk(path, at, to);
    at += bytesRead;
    yield bytesRead === block.length ? block : block.subarray(0, bytesRead);
  }
}

/** Warns if a file was written to while it was read. */
export async function checkUnchanged({ fd, path, bytes, stats }: ReadEntry, warn: Warn): Promise<void> {
  if (fd === null) return;
  const now = await fstat(fd, { bigint: true });
  if (now.size < stats.size) throw shrunk(path, Number(now.size), bytes);
  if (now.size > stats.size) warn(`${showPath(path)}: grew during the copy; only its first ${bytes} bytes were copied`);
  else if (now.mtimeNs !== stats.mtimeNs) warn(`${showPath(path)}: changed during the copy`);
}

async function readFile(walked: WalkedEntry): Promise<ReadEntry> {
  const { path } = walked;
  // Not by its path, where a link to a folder of devices may be by now: opening one may start something.
  const fd = await lookAt(path, (at) => openOrdinary(at, READ));
  try {
    const stats = await fstat(fd, { bigint: true });
    if (!stats.isFile()) throw refused(path, 'no longer a file');
    const bytes = Number(stats.size);
    if (bytes > WHOLE_BYTES) return entryOf(walked, stats, { bytes, fd });
    const contents = await readWhole(fd, path, bytes);
    await closeRead(fd);
    return entryOf(walked, stats, { bytes, contents });
  } catch (error) {
    await closeRead(fd);
    throw error;
  }
}

async function readWhole(fd: number, path: string, bytes: number): Promise<Buffer> {
  const contents = Buffer.allocUnsafe(bytes);
  for (let at = 0; at < bytes; ) {
    const { bytesRead } = await read(fd, contents, at, bytes - at, at);
    if (bytesRead === 0) throw shrunk(path, at, bytes);
    at += bytesRead;
  }
  return contents;
}

async function readOther(walked: WalkedEntry, keepsLinks: boolean): Promise<ReadEntry> {
  const { path, kind } = walked;
  const stats = await lookAt(path, (at) => lstat(at, { bigint: true }));
  const isFolder = kind === 'folder';
  if (isFolder !== stats.isDirectory()) throw refused(path, 'its type changed during the copy');
  return entryOf(walked, stats, { linkTarget: isFolder ? '' : await readLink(walked, keepsLinks) });
}

/** A single literal: spreads here cost 10 µs an entry. */
const entryOf = (
  { path, names, kind }: WalkedEntry,
  stats: fs.BigIntStats,
  { bytes = 0, linkTarget = '', contents = null, fd = null }: Partial<ReadEntry>,
): ReadEntry => {
  const mode = keptMode(Number(stats.mode), kind === 'folder');
  return { path, names, kind, stats, mode, mtimeNs: stats.mtimeNs, bytes, offset: 0, linkTarget, contents, fd };
};

const shrunk = (path: string, there: number, announced: number): VproxyError =>
  new VproxyError('copy-failed', `${showPath(path)}: shrank during the copy: ${there} of ${announced} bytes left`);
