/** What is to be copied: the files and folders that were named. */
import { constants } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import { requireAllowed } from './confine.js';
import { copyError, refused, showPath } from './copy-error.js';
import { compareNames, isPlainName } from './entry-name.js';
import { type KeptBounds, type KeptLists, keptBytes } from './kept-list.js';
import { type CopySource, MAX_SOURCES, tooManyPaths } from './messages.js';

/** A source that is there. */
export interface FoundSource {
  /** Absolute, and no link: one that is named is followed. */
  readonly path: string;
  readonly name: string;
  readonly kind: 'file' | 'folder';
}

/**
 * What a path names, for a list of sources. Throws `bad-argument` for one that has no name of its own, such as `/`.
 * `resolve` makes it absolute, where the sender is here.
 */
export function nameSource(path: string): CopySource {
  const absolute = resolve(path);
  const name = basename(absolute);
  if (!isPlainName(name)) throw new VproxyError('bad-argument', `${showPath(path)}: it has no name to be copied under`);
  return { path: absolute, name };
}

/** What a START names takes less than half of it: a link may lead to a longer path. */
const SOURCES: KeptBounds = { what: 'sources', maxCount: MAX_SOURCES, maxBytes: 12_582_912 };

/** Finds all of them, in the order of their names. Rejects with what is wrong with the first that cannot be copied. */
export async function findSources(
  sources: readonly CopySource[],
  root: string | null,
  lists: KeptLists,
): Promise<FoundSource[]> {
  const kept = lists.list(SOURCES);
  const found: FoundSource[] = [];
  for (const source of sources) {
    const one = await findSource(source, root);
    const bytes = keptBytes(source.path) + keptBytes(source.name) + keptBytes(one.path);
    if (!kept.hasRoom(bytes)) throw tooManyPaths();
    kept.add(bytes);
    found.push(one);
  }
  found.sort((a, b) => compareNames(a.name, b.name));
  found.forEach(({ path, name }, index) => {
    if (found[index - 1]?.name === name) throw refused(path, 'another source has the same name');
  });
  return found;
}

async function findSource({ path, name }: CopySource, root: string | null): Promise<FoundSource> {
  await requireAllowed(path, root);
  try {
    const real = await realpath(path);
    const stats = await stat(real);
    await access(real, constants.R_OK);
    if (stats.isFile()) return { path: real, name, kind: 'file' };
    if (stats.isDirectory()) return { path: real, name, kind: 'folder' };
  } catch (error) {
    if (systemCode(error) === '') throw error;
    throw copyError(path, error);
  }
  throw refused(path, 'it is neither a file nor a folder');
}
