/** The sources of a copy: the files and folders that were named. */
import { constants, type Dirent } from 'node:fs';
import { access, readdir, realpath, stat } from 'node:fs/promises';
import { basename, resolve } from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import { requireAllowed } from './allowed-folder.js';
import { type KeptBounds, type KeptLists, keptBytes, type Warn } from './kept-list.js';
import { type CopySource, MAX_SOURCES, tooManyPaths } from './messages.js';
import { copyError, refused } from './system-files.js';
import { compareNames, isPlainName, MAX_PATH_BYTES, showPath } from './tar/names.js';

/** A source that exists. */
export interface FoundSource {
  /** Absolute, and no link: one that is named is followed. */
  readonly path: string;
  readonly name: string;
  readonly kind: 'file' | 'folder';
}

/**
 * A path as a source. Throws `bad-argument` for one that has no name of its own, such as `/`.
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

/** Finds all of them, in the order of their names. Rejects for the first that cannot be copied. */
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

/** A file, folder or link below a source; only its folder was read. */
export interface WalkedEntry {
  readonly path: string;
  /** The names from the top of the copy down to it. */
  readonly names: readonly string[];
  readonly kind: 'file' | 'folder' | 'link';
}

/**
 * Walks through sources in the order of a copy, each folder before what is in it and names in order, without keeping more than the names of the folders that it is in. Sockets, FIFOs and devices are
 * left out with a warning. Rejects for a folder that cannot be read, and for a path that is too long.
 */
export async function* walkSources(sources: readonly FoundSource[], warn: Warn): AsyncGenerator<WalkedEntry> {
  for (const { path, name, kind } of sources) yield* walk({ path, names: [name], kind }, warn);
}

async function* walk(entry: WalkedEntry, warn: Warn): AsyncGenerator<WalkedEntry> {
  if (Buffer.byteLength(entry.names.join('/')) > MAX_PATH_BYTES - 1) {
    throw refused(entry.path, `its path in the copy is longer than ${MAX_PATH_BYTES - 1} bytes`);
  }
  yield entry;
  if (entry.kind !== 'folder') return;
  for (const child of await readFolder(entry.path)) {
    const path = `${entry.path}/${child.name}`;
    const kind = kindOf(child);
    if (kind === null) warn(`${showPath(path)}: left out: it is neither a file, a folder nor a link`);
    else if (kind === 'folder') yield* walk({ path, names: [...entry.names, child.name], kind }, warn);
    else yield { path, names: [...entry.names, child.name], kind };
  }
}

async function readFolder(path: string): Promise<Dirent[]> {
  try {
    return (await readdir(path, { withFileTypes: true })).sort((a, b) => compareNames(a.name, b.name));
  } catch (error) {
    // The reader of an entry reports one that was removed.
    if (systemCode(error) === 'ENOENT') return [];
    throw copyError(path, error);
  }
}

function kindOf(entry: Dirent): WalkedEntry['kind'] | null {
  if (entry.isFile()) return 'file';
  if (entry.isDirectory()) return 'folder';
  return entry.isSymbolicLink() ? 'link' : null;
}
