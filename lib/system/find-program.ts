/** Where a program is, as execvp(3) looks for it. */

import { constants } from 'node:fs';
import { access, stat } from 'node:fs/promises';
import path from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';

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

/** So many folders of `PATH` are looked at together: each look is a way through the thread pool. */
const FOLDERS_AT_ONCE = 8;

/**
 * Where a program is: a name with a slash is taken from `cwd` on, another one is looked up in `path`. Where nothing of
 * that name can be run there, it is the first that cannot. Rejects with `command-not-found` where there is none.
 */
export async function findProgram(name: string, search: ProgramSearch): Promise<FoundProgram> {
  if (name.includes('/')) return lookAt(join(search.cwd, name));
  const folders = name === '' ? [] : search.path.split(':');
  let second: FoundProgram | null = null;
  for (let at = 0; at < folders.length; at += FOLDERS_AT_ONCE) {
    const files = folders.slice(at, at + FOLDERS_AT_ONCE).map((folder) => (folder === '' ? name : `${folder}/${name}`));
    for (const found of await Promise.all(files.map((file) => lookAt(join(search.cwd, file))))) {
      if (found.refusal === null) return found;
      if (found.refusal !== 'ENOENT') second ??= found;
    }
  }
  if (second !== null) return second;
  throw notFound(name);
}

/** What is at a path. */
export async function lookAt(file: string): Promise<FoundProgram> {
  return { file, refusal: await refusalOf(file) };
}

/** Throws `command-not-found` or `command-failed` unless it can be run; `name` is what it was called. */
export function requireRunnable({ refusal }: FoundProgram, name: string): void {
  if (refusal === 'ENOENT') throw notFound(name);
  if (refusal !== null) throw new VproxyError('command-failed', `${show(name)}: ${refusal}`);
}

async function refusalOf(file: string): Promise<string | null> {
  try {
    const found = await stat(file);
    if (found.isDirectory()) return 'is a folder';
    if (!found.isFile()) return 'is no file';
    await access(file, constants.X_OK);
    return null;
  } catch (error) {
    const code = systemCode(error);
    if (['ENOENT', 'ENOTDIR', 'ENAMETOOLONG'].includes(code)) return 'ENOENT';
    return code === 'EACCES' ? 'permission denied' : code;
  }
}

// Not path.resolve: the system, not this text, says where a `..` leads behind a link.
const join = (cwd: string, file: string): string => (path.isAbsolute(file) ? file : `${cwd}/${file}`);

const show = (name: string): string => (name === '' ? "''" : escapeText(name, 200));

const notFound = (name: string): VproxyError =>
  new VproxyError('command-not-found', `${show(name)}: command not found`);
