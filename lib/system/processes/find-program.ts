/** Where a program is, as execvp(3) looks for it. */

import { accessSync, constants, type Stats, statSync } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import path from 'node:path';
import { systemCode, VproxyError } from '../../errors.js';
import { escapeText } from '../../util/escape.js';

/** The folder in which a command is to be run, and the `PATH` of its environment. */
export interface ProgramSearch {
  readonly cwd: string;
  readonly path: string;
}

/** A path where a program may be. */
export interface FoundProgram {
  /** Absolute. */
  readonly file: string;
  /** Null where it can be run; `ENOENT`, or why not. */
  readonly refusal: string | null;
}

/** The number of folders of `PATH` that are looked at together: each look is a way through the thread pool. */
const FOLDERS_AT_ONCE = 8;

/**
 * Where a program is: a name with a slash is taken from `cwd` on, another one is looked up in `path`. Where nothing of
 * that name can be run there, it is the first that cannot. Rejects with `command-not-found` where the name is found nowhere.
 */
export async function findProgram(name: string, search: ProgramSearch): Promise<FoundProgram> {
  const files = placesOf(name, search);
  if (name.includes('/')) return lookAt(files[0] ?? name);
  let second: FoundProgram | null = null;
  for (let at = 0; at < files.length; at += FOLDERS_AT_ONCE) {
    for (const found of await Promise.all(files.slice(at, at + FOLDERS_AT_ONCE).map(lookAt))) {
      if (found.refusal === null) return found;
      if (found.refusal !== 'ENOENT') second ??= found;
    }
  }
  if (second !== null) return second;
  throw notFound(name);
}

export async function lookAt(file: string): Promise<FoundProgram> {
  try {
    const refusal = kindRefusal(await stat(file));
    if (refusal === null) await access(file, constants.X_OK);
    return { file, refusal };
  } catch (error) {
    return { file, refusal: refusalOf(error) };
  }
}

/** Throws `command-not-found` or `command-failed` unless it can be run; `name` is what it was called. */
export function requireRunnable({ refusal }: FoundProgram, name: string): void {
  if (refusal === 'ENOENT') throw notFound(name);
  if (refusal !== null) throw new VproxyError('command-failed', `${show(name)}: ${refusal}`);
}

/**
 * The absolute path of the program that `called` means, seen from the working folder of this process; for a command line,
 * which may wait for the file system. No link is followed. A name that is found nowhere comes back as it is.
 */
export function locateProgram(called: string, searchPath = ''): string {
  const files = placesOf(called, { cwd: process.cwd(), path: searchPath }).map((file) => path.resolve(file));
  const found = called.includes('/') ? files[0] : files.find(isExecutable);
  return found ?? called;
}

/** Whether this process may run what a path names. */
export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return kindRefusal(statSync(file)) === null;
  } catch {
    return false;
  }
}

/** Where the program may be, in the order in which it is looked for. */
function placesOf(name: string, { cwd, path: searchPath }: ProgramSearch): string[] {
  if (name.includes('/')) return [join(cwd, name)];
  if (name === '') return [];
  return searchPath.split(':').map((folder) => join(cwd, folder === '' ? name : `${folder}/${name}`));
}

// Not path.resolve: the system, not this text, says where a `..` leads behind a link.
const join = (cwd: string, file: string): string => (path.isAbsolute(file) ? file : `${cwd}/${file}`);

function kindRefusal(found: Stats): string | null {
  if (found.isDirectory()) return 'is a folder';
  return found.isFile() ? null : 'is no file';
}

function refusalOf(error: unknown): string {
  const code = systemCode(error);
  if (['ENOENT', 'ENOTDIR', 'ENAMETOOLONG'].includes(code)) return 'ENOENT';
  return code === 'EACCES' ? 'permission denied' : code;
}

const show = (name: string): string => (name === '' ? "''" : escapeText(name, 200));

const notFound = (name: string): VproxyError =>
  new VproxyError('command-not-found', `${show(name)}: command not found`);
