/** The targets of a copy: the final paths of its files and folders. */
import { createHash } from 'node:crypto';
import type { Stats } from 'node:fs';
import { lstat, readlink, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { systemCode } from '../../errors.js';
import { type CopyRoot, MAX_SOURCES, tooManyPaths } from './copy-messages.js';
import { type KeptBounds, type KeptLists, keptBytes } from './kept-list.js';
import { denied, isWithin, requireAllowed } from './named-paths.js';
import { HeldFolder } from './staging/held-folder.js';
import { copyError, refused, withPath } from './system-files.js';
import { isPlainName } from './tar/names.js';

export interface CopyTarget {
  readonly root: CopyRoot;
  /** Absolute, for messages; its folder contains no links. */
  readonly path: string;
  /** Where it is written until complete: next to it, by the descriptor of its folder. */
  readonly stage: string;
  /** Whether it is merged into an existing folder. */
  readonly isMerged: boolean;
}

/** All paths must fit into a READY: those that do take less than this, whatever their folders are. */
const TARGETS: KeptBounds = { what: 'targets', maxCount: MAX_SOURCES, maxBytes: 12_582_912 };

/** Where the target is: in the folder that is held open, wherever `path` leads by now. */
export const placeOf = ({ path, stage }: CopyTarget): string => join(dirname(stage), basename(path));

/**
 * Finds targets like cp(1): in `target` if that is a folder, otherwise `target` is the new name of the only root. The caller owns
 * their folder. Rejects with `copy-refused` if a file would replace a folder or vice versa, and with `denied`.
 */
export async function findTargets(
  target: string,
  roots: readonly CopyRoot[],
  root: string | null,
  lists: KeptLists,
): Promise<{ readonly targets: CopyTarget[]; readonly folder: HeldFolder }> {
  await requireAllowed(target, root);
  return withPath(target, async () => {
    const { folder, name } = await findPlace(target, roots);
    try {
      return { targets: await targetsIn(folder, name, roots, root, lists), folder };
    } catch (error) {
      await folder.close();
      throw error;
    }
  });
}

async function targetsIn(
  { path: held }: HeldFolder,
  newName: string | null,
  roots: readonly CopyRoot[],
  root: string | null,
  lists: KeptLists,
): Promise<CopyTarget[]> {
  const real = await readlink(held);
  if (root !== null && !isWithin(real, await realpath(root))) throw denied();
  const kept = lists.list(TARGETS);
  const targets: CopyTarget[] = [];
  for (const one of roots) {
    const name = newName ?? one.name;
    const path = join(real, name);
    const stage = `${held}/${partName(name)}`;
    const bytes = keptBytes(one.name) + keptBytes(path) + keptBytes(stage);
    if (!kept.hasRoom(bytes)) throw tooManyPaths();
    kept.add(bytes);
    // If the named folder is the allowed one itself, its new name lies outside.
    await requireAllowed(path, root);
    targets.push({ root: one, path, stage, isMerged: await isMerge(path, `${held}/${name}`, one) });
  }
  return targets;
}

/** The folder of the targets, and the new name of the only one; null if they keep their names. */
async function findPlace(
  target: string,
  roots: readonly CopyRoot[],
): Promise<{ readonly folder: HeldFolder; readonly name: string | null }> {
  const stats = await statOf(target, stat);
  if (stats?.isDirectory() === true) return { folder: await HeldFolder.open(target, 0), name: null };
  if (roots.length > 1 || /(^|\/)\.{0,2}$/.test(target)) {
    throw refused(target, stats === null ? 'no such folder' : 'not a folder');
  }
  const name = basename(resolve(target));
  const folder = dirname(resolve(target));
  if (!isPlainName(name)) throw denied();
  if ((await statOf(folder, stat))?.isDirectory() !== true) throw refused(folder, 'no such folder');
  return { folder: await HeldFolder.open(folder, 0), name };
}

async function isMerge(path: string, place: string, { kind }: CopyRoot): Promise<boolean> {
  const stats = await statOf(place, lstat);
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

function partName(name: string): string {
  // File names are limited to 255 bytes.
  const short = Buffer.byteLength(name) <= 240 ? name : createHash('sha256').update(name).digest('hex');
  return `.${short}.vproxy-part`;
}
