/** Finds the program of a successor, and checks that it can be trusted with the state of this process. */
import { closeSync, fstatSync, lstatSync, openSync, readlinkSync, readSync, type Stats } from 'node:fs';
import { dirname, isAbsolute, join } from 'node:path';
import { isSea } from 'node:sea';
import { VproxyError } from '../../lib/errors.js';
import { isOwnGroup } from '../../lib/system/accounts.js';
import { withholdsCapabilities } from '../../lib/system/capabilities.js';
import { findProgram, requireRunnable } from '../../lib/system/processes/find-program.js';
import { describeError, escapeText } from '../../lib/util/escape.js';

/** The command of the successor: its program, and the arguments that this process was started with. */
export interface SuccessorCommand {
  readonly file: string;
  readonly args: readonly string[];
  /** The open program, to be closed when it is started; null: run it by its path. */
  readonly descriptor: number | null;
}

/**
 * Resolves with the command of a successor: `program`, or with null that of this process, at the same path. Rejects with
 * `upgrade-failed` if a user other than root and the one of this process could have replaced the program, and for any `program` if
 * this process withholds capabilities from its commands: these may ask for an upgrade, too, and many programs of root run other files.
 */
export async function successorCommand(program: string | null): Promise<SuccessorCommand> {
  const [, script = ''] = process.argv;
  const words = process.argv.slice(2);
  if (program !== null) {
    if (withholdsCapabilities())
      throw unusable(`${escapeText(program)}: it would get capabilities that commands do not get`);
    const file = await find(program);
    return { file, args: words, descriptor: openSafe(file) };
  }
  const args = isSea() ? words : [...process.execArgv, script, ...words];
  if (!isSea()) requireSafe(script);
  return { file: process.execPath, args, descriptor: openSafe(process.execPath) };
}

async function find(program: string): Promise<string> {
  try {
    const found = await findProgram(program, { cwd: process.cwd(), path: process.env['PATH'] ?? '' });
    requireRunnable(found, program);
    return found.file;
  } catch (error) {
    // It names the program.
    throw unusable(describeError(error), error);
  }
}

/** A file that only root and the user of this process can have put at a path. */
interface SafeFile {
  /** Its path without links. */
  readonly path: string;
  readonly stats: Stats;
}

/**
 * Follows a path as the system does. Throws `upgrade-failed` unless the file, each folder on the way to it and each link belong
 * to root or the user of this process, and no other user can change them.
 */
export function requireSafe(path: string, userId: number = process.getuid?.() ?? 0): SafeFile {
  let found: SafeFile = { path: '/', stats: lstatSync('/') };
  const left = (isAbsolute(path) ? path : `${process.cwd()}/${path}`).split('/');
  for (let linkCount = 0; left.length > 0; ) {
    const name = left.shift() as string;
    const place = name === '..' ? dirname(found.path) : join(found.path, name);
    const stats = attempt(path, () => lstatSync(place));
    requireOwn(path, place, stats, userId);
    if (!stats.isSymbolicLink()) {
      found = { path: place, stats };
      continue;
    }
    linkCount += 1;
    if (linkCount > MAX_LINKS) throw refused(path, `too many symbolic links (max ${MAX_LINKS})`);
    const target = attempt(path, () => readlinkSync(place));
    if (isAbsolute(target)) found = { path: '/', stats: lstatSync('/') };
    left.unshift(...target.split('/'));
  }
  return found;
}

function requireOwn(path: string, place: string, stats: Stats, userId: number): void {
  const shown = escapeText(place);
  if (stats.uid !== 0 && stats.uid !== userId) throw refused(path, `${shown} belongs to another user (${stats.uid})`);
  // In a folder such as /tmp, users cannot replace files of others; the mode of a link means nothing.
  if (stats.isSymbolicLink() || (stats.isDirectory() && (stats.mode & STICKY) !== 0)) return;
  const byGroup = (stats.mode & GROUP_WRITES) !== 0 && !isOwnGroup(stats.gid, userId);
  if (byGroup || (stats.mode & OTHERS_WRITE) !== 0) throw refused(path, `${shown} is writable by other users`);
}

/** The limit of the system. */
const MAX_LINKS = 40;
const STICKY = 0o1000;
const GROUP_WRITES = 0o020;
const OTHERS_WRITE = 0o002;

/** The first bytes of a binary. For a script, the interpreter opens the path again. */
const ELF = Buffer.from('\x7fELF');

/**
 * Opens a program that may be run, so that the checked file is the one that runs. The caller owns the descriptor. Returns null
 * for a script, and for an executable but unreadable program: these run by path. Throws `upgrade-failed` as `requireSafe` does.
 */
export function openSafe(path: string): number | null {
  const { path: place, stats } = requireSafe(path);
  if (!stats.isFile()) throw refused(path, 'not a regular file');
  let fd: number;
  try {
    fd = openSync(place, 'r');
  } catch {
    return null;
  }
  const start = Buffer.alloc(ELF.length);
  const { dev, ino } = fstatSync(fd);
  const isSame = dev === stats.dev && ino === stats.ino;
  if (isSame && readSync(fd, start, 0, ELF.length, 0) === ELF.length && start.equals(ELF)) return fd;
  closeSync(fd);
  if (isSame) return null;
  throw refused(path, 'the file is being replaced');
}

function attempt<Result>(path: string, call: () => Result): Result {
  try {
    return call();
  } catch (cause) {
    throw refused(path, describeError(cause), cause);
  }
}

const refused = (program: string, why: string, cause?: unknown): VproxyError =>
  unusable(`${escapeText(program)}: ${why}`, cause);

const unusable = (why: string, cause?: unknown): VproxyError =>
  new VproxyError('upgrade-failed', `cannot run as the successor: ${why}`, { cause });
