/** Examines a path: what is there, or why this user cannot tell. */
import { accessSync, constants, type Stats } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { type ErrorCode, systemCode } from '../../lib/errors.js';
import type { Subject } from '../../lib/remedies.js';
import { listFolder } from '../../lib/system/files/optional-files.js';
import { closestWord } from '../../lib/util/closest-word.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { type Finding, failure, finding, type Words } from './findings.js';
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
    const why = code === 'ENOENT' ? 'does not exist' : 'is not one: it is a file, or below a file';
    return { problem: finding('folder-missing', `the folder ${escapeText(folder)} ${why}`) };
  }
}

/** The same for a `socket` or another kind of file that is created if it is missing: also examines the folder. */
export async function lookForNew(machine: Machine, path: string, kind: string): Promise<PathLook> {
  const [look, folder] = [await lookAtPath(machine, path), dirname(resolve(path))];
  if (look.problem !== null || isAllowed(folder, constants.W_OK | constants.X_OK)) return look;
  const message = `this user cannot create a ${kind} in ${escapeText(folder)} (${formatAccess(await stat(folder))})`;
  return { problem: finding('folder-denied', message) };
}

/** Why a channel to `subject` cannot be what is at a path: it is missing, not `kind` (`a socket`), or denied; null if it can. */
export async function whyUnusable(
  machine: Machine,
  path: string,
  { subject, kind, words }: { readonly subject: Subject; readonly kind: string; readonly words?: Words },
): Promise<Finding | null> {
  const { problem, stats } = await lookAtPath(machine, path);
  if (problem !== null) return problem;
  const shown = escapeText(path);
  const fail = (code: ErrorCode, message: string): Finding => failure(subject, code, message, words);
  if (stats === null) {
    const near = closestWord(basename(path), (listFolder(dirname(resolve(path))) ?? []).slice(0, 1000));
    const hint = near === undefined ? '' : `, but ${escapeText(near)} does`;
    return fail('channel-missing', `${shown} does not exist${hint}`);
  }
  const found = describeKind(stats);
  if (found !== kind) return fail('channel-unusable', `${shown} is ${found}, not ${kind}`);
  if (isAllowed(path, constants.R_OK | constants.W_OK)) return null;
  return fail('channel-denied', `this user cannot open ${shown} (${formatAccess(stats)})`);
}

/** Whether this user has the access `mode` to a path (`constants.R_OK` etc.). */
export function isAllowed(path: string, mode: number): boolean {
  try {
    accessSync(path, mode);
    return true;
  } catch {
    return false;
  }
}

/** `mode 0660, user 107, group 36`. */
export function formatAccess({ mode, uid, gid }: Stats): string {
  return `mode ${(mode & 0o7777).toString(8).padStart(4, '0')}, user ${uid}, group ${gid}`;
}

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
