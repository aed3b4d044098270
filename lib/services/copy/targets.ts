/** The targets of a copy: the final paths of its files and folders. */
import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { lstat, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { systemCode } from '../../errors.js';
import { type CopyRoot, MAX_SOURCES, tooManyPaths } from './copy-messages.js';
import { type KeptBounds, type KeptLists, keptBytes } from './kept-list.js';
import { denied, requireAllowed } from './named-paths.js';
import { copyError, refused, withPath } from './system-files.js';
import { isPlainName } from './tar/names.js';

export interface CopyTarget {
  readonly root: CopyRoot;
  /** Absolute; its folder contains no links. */
  readonly path: string;
  /** Where it is written until complete: next to `path`. */
  readonly stage: string;
  /** Whether it is merged into an existing folder. */
  readonly isMerged: boolean;
}

/** All paths must fit into a READY: those that do take less than this, whatever their folders are. */
const TARGETS: KeptBounds = { what: 'targets', maxCount: MAX_SOURCES, maxBytes: 12_582_912 };

/**
 * Finds targets like cp(1): in `target` if that is a folder, otherwise `target` is the new name of the only root. Rejects
 * with `copy-refused` if a file would replace a folder or vice versa, and with `denied`.
 */
export async function findTargets(
  target: string,
  roots: readonly CopyRoot[],
  root: string | null,
  lists: KeptLists,
): Promise<CopyTarget[]> {
  await requireAllowed(target, root);
  return withPath(target, async () => {
    const pathOf = await findPlace(target, roots);
    const kept = lists.list(TARGETS);
    const targets: CopyTarget[] = [];
    for (const one of roots) {
      const path = pathOf(one);
      const stage = stagePath(path);
      const bytes = keptBytes(one.name) + keptBytes(path) + keptBytes(stage);
      if (!kept.hasRoom(bytes)) throw tooManyPaths();
      kept.add(bytes);
      // If the named folder is the allowed one itself, its new name lies outside.
      await requireAllowed(path, root);
      targets.push({ root: one, path, stage, isMerged: await isMerge(path, one) });
    }
    return targets;
  });
}

async function findPlace(target: string, roots: readonly CopyRoot[]): Promise<(root: CopyRoot) => string> {
  const stats = await statOf(target, stat);
  if (stats?.isDirectory() === true) {
    const folder = await realpath(target);
    return ({ name }) => join(folder, name);
  }
  if (roots.length > 1 || /(^|\/)\.{0,2}$/.test(target)) {
    throw refused(target, stats === null ? 'no such folder' : 'not a folder');
  }
  const name = basename(resolve(target));
  const folder = dirname(resolve(target));
  if (!isPlainName(name)) throw denied();
  if ((await statOf(folder, stat))?.isDirectory() !== true) throw refused(folder, 'no such folder');
  const path = join(await realpath(folder), name);
  return () => path;
}

async function isMerge(path: string, { kind }: CopyRoot): Promise<boolean> {
  const stats = await statOf(path, lstat);
  requireReplaceable(path, stats, kind);
  return stats !== null && kind === 'folder';
}

/** Throws `copy-refused` if the entry at `path` cannot be replaced by, or hold, one of this kind. */
export function requireReplaceable(path: string, stats: Stats | null, kind: 'file' | 'folder' | 'link'): void {
  if (stats === null) return;
  const isFolder = stats.isDirectory();
  if (isFolder && kind !== 'folder') throw refused(path, `is a folder; cannot replace it with a ${kind}`);
  if (!isFolder && kind === 'folder') throw refused(path, 'not a folder; cannot replace it with one');
  if (!isFolder && !stats.isFile() && !stats.isSymbolicLink()) throw refused(path, 'not a file, folder or link');
}

/** The stats of a path; null if it does not exist. */
export async function statOf(path: string, look: (path: string) => Promise<Stats>): Promise<Stats | null> {
  try {
    return await look(path);
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return null;
    if (systemCode(error) === 'ENOTDIR') throw refused(path, 'not a folder');
    throw copyError(path, error);
  }
}

function stagePath(path: string): string {
  const name = basename(path);
  // File names are limited to 255 bytes.
  const short = Buffer.byteLength(name) <= 240 ? name : createHash('sha256').update(name).digest('hex');
  return join(dirname(path), `.${short}.vproxy-part`);
}
