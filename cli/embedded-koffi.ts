/**
 * koffi in the single executable. The system loads libraries only from files, but the executable contains this one: so it is
 * loaded from a file that a package installed, or from a temporary one.
 */
import { closeSync, fstatSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { getRawAsset } from 'node:sea';
import type { Koffi } from '../lib/system/libc.js';

export interface KoffiPlaces {
  /** The file installed by a package, for users who cannot create executable files. */
  readonly installed: string;
  /** Folders to unpack it in, tried in order: it cannot be loaded from, for example, a file system with `noexec`. */
  readonly folders: readonly string[];
}

/** Loads the library of this executable. Throws if it has none, or if it cannot be loaded from anywhere. */
export function loadEmbeddedKoffi(): Koffi {
  const runtime = process.env['XDG_RUNTIME_DIR'];
  return loadKoffi(Buffer.from(getRawAsset('koffi.node') as ArrayBuffer), {
    installed: join(dirname(process.execPath), '../lib/vproxy/koffi.node'),
    folders: [tmpdir(), ...(runtime === undefined ? [] : [runtime]), '/dev/shm'],
  });
}

/** Loads the library with these bytes. */
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

/** Loads a file that only root and this user can change, and that is byte for byte this library. */
function loadInstalled(library: Buffer, path: string): Koffi {
  const fd = openSync(path, 'r');
  try {
    const { mode, uid } = fstatSync(fd);
    const isSafe = (uid === 0 || uid === process.geteuid?.()) && (mode & 0o022) === 0;
    if (!isSafe || !library.equals(readFileSync(fd))) throw new Error(`${path} is not the library of this program`);
    // The checked file, even if the path has been replaced meanwhile.
    return open(`/proc/self/fd/${fd}`);
  } finally {
    closeSync(fd);
  }
}

/** Unpacks it in a private folder, which is removed at once: the loaded library stays. */
function loadUnpacked(library: Buffer, parent: string): Koffi {
  const folder = mkdtempSync(join(parent, 'vproxy-koffi-'));
  try {
    const path = join(folder, 'koffi.node');
    writeFileSync(path, library, { mode: 0o500, flag: 'wx' });
    if (!library.equals(readFileSync(path))) throw new Error(`${path} was not written correctly`);
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
