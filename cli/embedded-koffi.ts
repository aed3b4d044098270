/**
 * koffi in the single executable. The system loads a library from a file only, and the executable has this one within
 * itself: so it comes from a file that a package put at its place, or from one that is there for a moment.
 */
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { getRawAsset } from 'node:sea';
import type { Koffi } from '../lib/system/libc.js';

/** Where it may come from. */
export interface KoffiPlaces {
  /** Where a package puts the file, for users who can write nothing that may be run. */
  readonly installed: string;
  /** Folders to unpack it in; the next one where it cannot be loaded, such as on a file system with `noexec`. */
  readonly folders: readonly string[];
}

/** The library of this executable. Throws where it has none, or it cannot be loaded from anywhere. */
export function loadEmbeddedKoffi(): Koffi {
  const runtime = process.env['XDG_RUNTIME_DIR'];
  return loadKoffi(Buffer.from(getRawAsset('koffi.node') as ArrayBuffer), {
    installed: join(dirname(process.execPath), '../lib/vproxy/koffi.node'),
    folders: [tmpdir(), ...(runtime === undefined ? [] : [runtime]), '/dev/shm'],
  });
}

/** Loads the library that has these bytes. */
export function loadKoffi(library: Buffer, { installed, folders }: KoffiPlaces): Koffi {
  const ways = [
    () => loadInstalled(library, installed),
    ...folders.map((folder) => () => loadUnpacked(library, folder)),
  ];
  let failure: unknown = null;
  for (const load of ways) {
    try {
      return load();
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

/** What nobody but root and this user can change, and is this library to the byte. */
function loadInstalled(library: Buffer, path: string): Koffi {
  const fd = openSync(path, 'r');
  try {
    const { mode, uid } = fstatSync(fd);
    const isSafe = (uid === 0 || uid === process.geteuid?.()) && (mode & 0o022) === 0;
    if (!isSafe || !library.equals(readFileSync(fd))) throw new Error(`${path} is not the library of this program`);
    // What was looked at, whatever has that name by now.
    return open(`/proc/self/fd/${fd}`);
  } finally {
    closeSync(fd);
  }
}

/** In a folder of this user's alone, which goes again at once: what is loaded stays. */
function loadUnpacked(library: Buffer, parent: string): Koffi {
  const folder = mkdtempSync(join(parent, 'vproxy-koffi-'));
  try {
    const path = join(folder, 'koffi.node');
    writeFileSync(path, library, { mode: 0o500, flag: 'wx' });
    if (!library.equals(readFileSync(path))) throw new Error(`${path} was not written as it should be`);
    return open(path);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function open(path: string): Koffi {
  const loaded = { exports: {} as Koffi };
  process.dlopen(loaded, path);
  return loaded.exports;
}
