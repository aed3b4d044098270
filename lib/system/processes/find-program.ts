/** Finds programs like execvp(3). */

// node:fs/promises takes 2 ms to load, which a command that only calls `locateProgram` saves.
import { accessSync, constants, promises as fs, type Stats, statSync } from 'node:fs';
import path from 'node:path';
import { systemCode, VproxyError } from '../../errors.js';
import { escapeText } from '../../util/escape.js';

/** The folder in which a command runs, and the `PATH` of its environment. */
export interface ProgramSearch {
  readonly cwd: string;
  readonly path: string;
}

/** A path where a program may be. */
export interface FoundProgram {
  /** Absolute. */
  readonly file: string;
  /** Null if it can be run; `ENOENT`, or the reason why not. */
  readonly refusal: string | null;
}

/**
 * Finds a program: a name with a slash relative to `cwd`, any other in `path`, one folder after the other: each look takes one
 * of the few threads for system calls, and may hang. If nothing of that name can be run, returns the
 * first file that cannot. Rejects with `command-not-found` if the name is found nowhere.
 */
export async function findProgram(name: string, search: ProgramSearch): Promise<FoundProgram> {
  const files = placesOf(name, search);
  if (name.includes('/')) return lookAt(files[0] ?? name);
  let second: FoundProgram | null = null;
  for (const file of files) {
    const found = await lookAt(file);
    if (found.refusal === null) return found;
    if (found.refusal !== 'ENOENT') second ??= found;
  }
  if (second !== null) return second;
  throw notFound(name);
}

export async function lookAt(file: string): Promise<FoundProgram> {
  try {
    const refusal = kindRefusal(await fs.stat(file));
    if (refusal === null) await fs.access(file, constants.X_OK);
    return { file, refusal };
  } catch (error) {
    return { file, refusal: refusalOf(error) };
  }
}

/** Throws `command-not-found` or `command-failed` unless it can be run; `name` is how the caller named it. */
export function requireRunnable({ refusal }: FoundProgram, name: string): void {
  if (refusal === 'ENOENT') throw notFound(name);
  if (refusal !== null) throw new VproxyError('command-failed', `${show(name)}: ${refusal}`);
}

/**
 * The absolute path of the program that `called` means, relative to this process's working folder; synchronous, for command
 * lines. Does not follow links. Returns a name that is found nowhere unchanged.
 */
export function locateProgram(called: string, searchPath = ''): string {
  const files = placesOf(called, { cwd: process.cwd(), path: searchPath }).map((file) => path.resolve(file));
  const found = called.includes('/') ? files[0] : files.find(isExecutable);
  return found ?? called;
}

/** Whether this process may run the file at a path. */
export function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return kindRefusal(statSync(file)) === null;
  } catch {
    return false;
  }
}

/** The paths where the program may be, in search order. */
function placesOf(name: string, { cwd, path: searchPath }: ProgramSearch): string[] {
  if (name.includes('/')) return [join(cwd, name)];
  if (name === '') return [];
  return searchPath.split(':').map((folder) => join(cwd, folder === '' ? name : `${folder}/${name}`));
}

// Not path.resolve: only the system knows where a `..` after a link leads.
const join = (cwd: string, file: string): string => (path.isAbsolute(file) ? file : `${cwd}/${file}`);

function kindRefusal(found: Stats): string | null {
  if (found.isDirectory()) return 'is a folder';
  return found.isFile() ? null : 'is not a regular file';
}

function refusalOf(error: unknown): string {
  const code = systemCode(error);
  if (['ENOENT', 'ENOTDIR', 'ENAMETOOLONG'].includes(code)) return 'ENOENT';
  return code === 'EACCES' ? 'permission denied' : code;
}

const show = (name: string): string => (name === '' ? "''" : escapeText(name, 200));

const notFound = (name: string): VproxyError =>
  new VproxyError('command-not-found', `${show(name)}: command not found`);
