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

/**
 * The absolute path of a program: a name with a slash is taken from `cwd` on, another one is looked up in `path`. Whether
 * anything is there is not said for a name with a slash. Rejects with `command-not-found`; where there is something of
 * that name which cannot be run, the first such path is given.
 */
export async function findProgram(name: string, search: ProgramSearch): Promise<string> {
  if (name.includes('/')) return join(search.cwd, name);
  let second: string | null = null;
  for (const folder of name === '' ? [] : search.path.split(':')) {
    const file = join(search.cwd, folder === '' ? name : `${folder}/${name}`);
    const why = await refusal(file);
    if (why === null) return file;
    if (why !== 'ENOENT') second ??= file;
  }
  if (second !== null) return second;
  throw notFound(name);
}

/** Rejects with `command-not-found` or `command-failed` unless `file` is a program; `name` is what it was called. */
export async function requireProgram(file: string, name: string): Promise<void> {
  const why = await refusal(file);
  if (why === 'ENOENT') throw notFound(name);
  if (why !== null) throw new VproxyError('command-failed', `${show(name)}: ${why}`);
}

/** Null where `file` can be run; `ENOENT`, or why not. */
async function refusal(file: string): Promise<string | null> {
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
