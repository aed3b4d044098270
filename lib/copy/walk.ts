/** The files, folders and links below a source, in the order of a copy: each folder before what is in it, names in order. */
import type { Dirent } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { systemCode } from '../errors.js';
import { copyError, refused, showPath } from './copy-error.js';
import { compareNames } from './entry-name.js';
import { MAX_PATH_BYTES } from './messages.js';
import type { FoundSource } from './sources.js';

/** One of them; nothing but its folder was read. */
export interface WalkedEntry {
  readonly path: string;
  /** From the top of the copy. */
  readonly names: readonly string[];
  readonly kind: 'file' | 'folder' | 'link';
}

/** Told of what is left out. */
export type Warn = (message: string) => void;

/**
 * Walks through sources without keeping more than the names of the folders that it is in. Sockets, FIFOs and devices are
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
    // One that has gone is told of by who reads it.
    if (systemCode(error) === 'ENOENT') return [];
    throw copyError(path, error);
  }
}

function kindOf(entry: Dirent): WalkedEntry['kind'] | null {
  if (entry.isFile()) return 'file';
  if (entry.isDirectory()) return 'folder';
  return entry.isSymbolicLink() ? 'link' : null;
}
