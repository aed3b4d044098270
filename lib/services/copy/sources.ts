/** The sources of a copy: the files and folders that the user named. */
import { isUtf8 } from 'node:buffer';
import { constants } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import { type CopySource, MAX_SOURCES, tooManyPaths } from './copy-messages.js';
import { FolderStack, readSorted } from './folders.js';
import { type KeptBounds, type KeptLists, keptBytes, type Warn } from './kept-list.js';
import { denied, isWithin, requireAllowed } from './named-paths.js';
import { HeldFolder } from './staging/held-folder.js';
import { refused, withPath } from './system-files.js';
import { compareNames, MAX_PATH_BYTES, showPath } from './tar/names.js';

export interface FoundSource {
  /** Absolute and not a link: links named as sources are followed. */
  readonly path: string;
  readonly name: string;
  readonly kind: 'file' | 'folder';
}

/** More than twice what a START can name: a link may lead to a longer path. */
const SOURCES: KeptBounds = { what: 'sources', maxCount: MAX_SOURCES, maxBytes: 12_582_912 };

/** Finds all sources, sorted by name. Rejects for the first that cannot be copied. */
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
  return withPath(path, async () => {
    const bytes = await realpath(path, 'buffer');
    if (!isUtf8(bytes)) throw refused(path, 'name is not UTF-8');
    const real = bytes.toString();
    // Links may have changed since.
    if (root !== null && !isWithin(real, await realpath(root))) throw denied();
    const stats = await stat(real);
    await access(real, constants.R_OK);
    if (stats.isFile()) return { path: real, name, kind: 'file' };
    if (stats.isDirectory()) return { path: real, name, kind: 'folder' };
    throw refused(path, 'not a file or folder');
  });
}

/** A file, folder or link below a source, known only from reading its folder. */
export interface WalkedEntry {
  readonly path: string;
  /** The names from the top of the copy down to this entry. */
  readonly names: readonly string[];
  readonly kind: 'file' | 'folder' | 'link';
}

/**
 * Walks the sources in copy order, each folder before its contents and sorted by name, holding only part of the names in the open
 * folders. Skips sockets, FIFOs and devices with a warning. Rejects for an unreadable folder and for a path that is too long.
 */
export async function* walkSources(sources: readonly FoundSource[], warn: Warn): AsyncGenerator<WalkedEntry> {
  for (const source of sources) yield* walk(source, warn);
}

/** Like `readSorted`, of the folder at this path: somebody may put a link in its place. */
async function readAt(path: string, after: string, maxBytes: number): ReturnType<typeof readSorted> {
  const folder = await HeldFolder.openAt(path);
  try {
    return await readSorted(folder.path, after, maxBytes, path);
  } finally {
    await folder.close();
  }
}

async function* walk({ path: top, name, kind }: FoundSource, warn: Warn): AsyncGenerator<WalkedEntry> {
  yield { path: top, names: [name], kind };
  if (kind !== 'folder') return;
  const folders = new FolderStack(readAt);
  // The names from the top down to the innermost folder.
  const above = [name];
  folders.push(top);
  while (folders.depth > 0) {
    const item = await withPath(folders.path, () => folders.next());
    if (item === null) {
      folders.pop();
      above.pop();
      continue;
    }
    const path = `${folders.path}/${item.name}`;
    if (item.kind === 'other') {
      warn(`${showPath(path)}: skipped: not a file, folder or link`);
      continue;
    }
    const names = [...above, item.name];
    if (item.kind === 'folder') {
      if (Buffer.byteLength(names.join('/')) > MAX_PATH_BYTES - 1)
        throw refused(path, `path in the copy longer than ${MAX_PATH_BYTES - 1} bytes`);
      folders.push(path);
      above.push(item.name);
    }
    yield { path, names, kind: item.kind };
  }
}
