/** What a peer is allowed that changes this machine, as files and command lines say it. */
import { normalize } from 'node:path/posix';
import { VproxyError } from '../errors.js';
import type { CopyPermission, ExecPermission } from '../proxy/services/built-in.js';
import { joinWithCommas, splitAtCommas } from '../util/addresses.js';
import { escapeText } from '../util/escape.js';

/** The value of `--allow-exec`, paths between commas, or null where it has none: any program. Throws `bad-argument`. */
export function parseExecText(text: string | null): ExecPermission {
  return { commands: text === null ? 'any' : splitAtCommas(text).map(requireProgram) };
}

/** The value of `--allow-copy`, or null where it has none: all files. Throws `bad-argument`. */
export function parseCopyText(text: string | null): CopyPermission {
  return { root: text === null ? null : requireFolder(text) };
}

/** The value of `allow-exec` in a file: true, false, or a list of paths; null allows nothing. Throws `bad-argument`. */
export function parseExecValue(value: unknown): ExecPermission | null {
  if (typeof value === 'boolean') return value ? { commands: 'any' } : null;
  if (!Array.isArray(value) || !value.every((path) => typeof path === 'string')) {
    throw bad('expected true, false, or a list of paths, such as ["/usr/bin/uname"]');
  }
  return value.length === 0 ? null : { commands: value.map(requireProgram) };
}

/** The value of `allow-copy` in a file: true, false, or a path; null allows nothing. Throws `bad-argument`. */
export function parseCopyValue(value: unknown): CopyPermission | null {
  if (typeof value === 'boolean') return value ? { root: null } : null;
  if (typeof value !== 'string') throw bad('expected true, false, or the path of a folder, such as "/srv/in"');
  return { root: requireFolder(value) };
}

/** The value for a file; `parseExecValue` reads it back. */
export function describeExec(exec: ExecPermission | null): boolean | readonly string[] {
  if (exec === null) return false;
  return exec.commands === 'any' || exec.commands;
}

/** The value for a file; `parseCopyValue` reads it back. */
export function describeCopy(copy: CopyPermission | null): boolean | string {
  return copy === null ? false : (copy.root ?? true);
}

/** The flag of a command line; null for what needs none. */
export function formatExecFlag(exec: ExecPermission | null): string | null {
  if (exec === null) return null;
  return exec.commands === 'any' ? '--allow-exec' : `--allow-exec=${joinWithCommas(exec.commands)}`;
}

/** The flag of a command line; null for what needs none. */
export function formatCopyFlag(copy: CopyPermission | null): string | null {
  if (copy === null) return null;
  return copy.root === null ? '--allow-copy' : `--allow-copy=${copy.root}`;
}

function requireProgram(path: string): string {
  if (isPlain(path) && !path.endsWith('/')) return normalize(path);
  throw bad(`"${escapeText(path, 80)}" is not the absolute path of a program, such as /usr/bin/uname`);
}

function requireFolder(path: string): string {
  if (isPlain(path)) return normalize(path).replace(/(?<=.)\/$/, '');
  throw bad(`"${escapeText(path, 80)}" is not the absolute path of a folder, such as /srv/in`);
}

/** A path that means what it says, whatever links there are. */
const isPlain = (path: string): boolean =>
  path.startsWith('/') && !path.includes('\0') && !path.split('/').includes('..');

const bad = (what: string): VproxyError => new VproxyError('bad-argument', what);
