/** Examines a path: what is there, or why this user cannot tell. */
import { accessSync, constants, type Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { systemCode } from '../../lib/errors.js';
import { listFolder } from '../../lib/system/files/optional-files.js';
import { closestWord } from '../../lib/util/closest-word.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { type Finding, finding } from './findings.js';
import type { Machine } from './machine.js';

/** The facts of the file at a path (null if nothing is there), or why it was not examined. */
export type PathLook =
  | { readonly stats: Stats | null; readonly problem: null }
  | { readonly stats?: never; readonly problem: Finding };

/** Examines a path, following links. Never rejects. */
export async function lookAtPath(machine: Machine, path: string): Promise<PathLook> {
  const remote = remoteMountOf(machine, resolve(path));
  if (remote !== null) return { problem: finding('path-remote', `${escapeText(path)} is on ${remote}: not checked`) };
  try {
    return { stats: await stat(path), problem: null };
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EACCES')
      return { problem: finding('path-denied', `${escapeText(firstClosed(path))} cannot be searched by this user`) };
    if (code !== 'ENOENT' && code !== 'ENOTDIR') {
      return { problem: finding('path-denied', `${escapeText(path)}: ${describeError(error)}`) };
    }
    const folder = dirname(resolve(path));
    if (listFolder(folder) !== null || (code === 'ENOENT' && isSearchable(folder)))
      return { stats: null, problem: null };
    return { problem: finding('folder-missing', `the folder ${escapeText(folder)} does not exist`) };
  }
}

/** The finding that this user cannot create files in a folder. */
export const folderDenied = (message: string): Finding => finding('folder-denied', message);

/** Whether this user has the access `mode` to a path (`constants.R_OK` etc.). */
export function isAllowed(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

/** Returns the most similar name in the folder of `path`; null if none is similar. */
export function nearName(path: string): string | null {
  const names = listFolder(dirname(resolve(path))) ?? [];
  return closestWord(basename(path), names.slice(0, 1000)) ?? null;
}

/** `mode 0660, user 107, group 36`. */
export function formatAccess({ mode, uid, gid }: Stats): string {
  return `mode ${(mode & 0o7777).toString(8).padStart(4, '0')}, user ${uid}, group ${gid}`;
}

/** Names the type of a file, human-readable. */
export function describeKind(stats: Stats): string {
  if (stats.isFile()) return 'a file';
  if (stats.isDirectory()) return 'a folder';
  if (stats.isFIFO()) return 'a FIFO';
  if (stats.isSocket()) return 'a socket';
  return 'a device';
}

function isSearchable(folder: string): boolean {
  return isAllowed(folder, constants.X_OK);
}

/** The uppermost folder above `path` that this user cannot search. */
function firstClosed(path: string): string {
  let closed = dirname(resolve(path));
  for (let folder = closed; folder !== '/'; folder = dirname(folder)) if (!isSearchable(folder)) closed = folder;
  return closed;
}

/** File systems whose server is another machine: a stat there can hang forever. */
const REMOTE = /^(nfs4?|cifs|smb3|ceph|afs|glusterfs|fuse\.(sshfs|glusterfs|ceph.*))$/;

/** Returns `nfs at /home` for a path on a file system of another machine; else null. */
function remoteMountOf(machine: Machine, path: string): string | null {
  let found: { readonly point: string; readonly type: string } | null = null;
  for (const line of machine.readProc('self/mountinfo').split('\n')) {
    const [, , , , point = ''] = line.split(' ');
    const [, type = ''] = / - (\S+) /.exec(line) ?? [];
    const decoded = point.replace(/\\([0-7]{3})/g, (_, digits: string) =>
      String.fromCharCode(Number.parseInt(digits, 8)),
    );
    const isAbove = decoded === '/' || path === decoded || path.startsWith(`${decoded}/`);
    // Later mounts hide earlier ones.
    if (isAbove && decoded.length >= (found?.point.length ?? 0)) found = { point: decoded, type };
  }
  return found !== null && REMOTE.test(found.type) ? `${found.type} at ${escapeText(found.point)}` : null;
}
