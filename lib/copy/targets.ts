/** Where the files and folders of a copy end up. */
import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { lstat, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { systemCode } from '../errors.js';
import { denied, requireAllowed } from './confine.js';
import { copyError, refused } from './copy-error.js';
import { isPlainName } from './entry-name.js';
import type { CopyRoot } from './messages.js';

/** Where one of them does. */
export interface CopyTarget {
  readonly root: CopyRoot;
  /** Absolute; its folder has no links in it. */
  readonly path: string;
  /** Where it is until it is complete: beside `path`. */
  readonly stage: string;
  /** Whether there is a folder already, that what comes is put into. */
  readonly isMerged: boolean;
}

/**
 * Finds them as cp(1) does: in `target` if that is a folder, or else `target` is what the only one is called. Rejects with
 * `copy-refused` where a file would take the place of a folder or the other way round, and with `denied`.
 */
export async function findTargets(
  target: string,
  roots: readonly CopyRoot[],
  root: string | null,
): Promise<CopyTarget[]> {
  await requireAllowed(target, root);
  try {
    const paths = await targetPaths(target, roots);
    const targets: CopyTarget[] = [];
    for (const [index, path] of paths.entries()) {
      // The folder that is named may be the one that is allowed, and what it is called lie outside.
      await requireAllowed(path, root);
      const one = roots[index];
      if (one !== undefined)
        targets.push({ root: one, path, stage: stagePath(path), isMerged: await isMerge(path, one) });
    }
    return targets;
  } catch (error) {
    throw copyError(target, error);
  }
}

async function targetPaths(target: string, roots: readonly CopyRoot[]): Promise<string[]> {
  const stats = await statOf(target, stat);
  if (stats?.isDirectory() === true) {
    const folder = await realpath(target);
    return roots.map(({ name }) => join(folder, name));
  }
  if (roots.length > 1 || /(^|\/)\.{0,2}$/.test(target)) {
    throw refused(target, stats === null ? 'there is no such folder' : 'it is no folder');
  }
  const name = basename(resolve(target));
  const folder = dirname(resolve(target));
  if (!isPlainName(name)) throw denied();
  if ((await statOf(folder, stat))?.isDirectory() !== true) throw refused(folder, 'there is no such folder');
  return [join(await realpath(folder), name)];
}

/** Whether a folder is put into one that is there. */
async function isMerge(path: string, { kind }: CopyRoot): Promise<boolean> {
  const stats = await statOf(path, lstat);
  requireReplaceable(path, stats, kind);
  return stats !== null && kind === 'folder';
}

/** Throws `copy-refused` where what is at `path` cannot be replaced by, or hold, what is to come. */
export function requireReplaceable(path: string, stats: Stats | null, kind: 'file' | 'folder' | 'link'): void {
  if (stats === null) return;
  const isFolder = stats.isDirectory();
  if (isFolder && kind !== 'folder') throw refused(path, `it is a folder, and a ${kind} is to take its place`);
  if (!isFolder && kind === 'folder') throw refused(path, 'it is no folder, and a folder is to take its place');
  if (!isFolder && !stats.isFile() && !stats.isSymbolicLink()) throw refused(path, 'it is neither a file nor a folder');
}

/** What is at a path; null where nothing is. */
export async function statOf(path: string, look: (path: string) => Promise<Stats>): Promise<Stats | null> {
  try {
    return await look(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    if (systemCode(error) === 'ENOTDIR') throw refused(path, 'it is no folder');
    throw copyError(path, error);
  }
}

function stagePath(path: string): string {
  const name = basename(path);
  // The name of a file has 255 bytes at most.
  const short = Buffer.byteLength(name) <= 240 ? name : createHash('sha256').update(name).digest('hex');
  return join(dirname(path), `.${short}.vproxy-part`);
}
