/** Which program a successor is, and whether it may be trusted with all that this process has. */
import { realpathSync, type Stats, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { isSea } from 'node:sea';
import { VproxyError } from '../../lib/errors.js';
import { isOwnGroup } from '../../lib/system/accounts.js';
import { findProgram, requireRunnable } from '../../lib/system/find-program.js';
import { describeError, escapeText } from '../../lib/util/escape.js';

/** The words of the successor of this process: its program, and the arguments that this process was started with. */
export interface SuccessorCommand {
  readonly file: string;
  readonly args: readonly string[];
}

/**
 * The command of a successor: `program`, or, with null, what this process was started as, at the same path. Rejects with
 * `upgrade-failed` where somebody else than root and the user of this process could have put another program there.
 */
export async function successorCommand(program: string | null): Promise<SuccessorCommand> {
  const [, script = ''] = process.argv;
  const words = process.argv.slice(2);
  if (program !== null) {
    const file = await find(program);
    requireSafe(file);
    return { file, args: words };
  }
  requireSafe(process.execPath);
  if (isSea()) return { file: process.execPath, args: words };
  requireSafe(script);
  return { file: process.execPath, args: [...process.execArgv, script, ...words] };
}

async function find(program: string): Promise<string> {
  try {
    const found = await findProgram(program, { cwd: process.cwd(), path: process.env['PATH'] ?? '' });
    requireRunnable(found, program);
    return found.file;
  } catch (error) {
    throw refused(program, describeError(error), error);
  }
}

/** Throws `upgrade-failed` unless a file, and each folder on the way to it, can be changed by root and the user of this process only. */
export function requireSafe(path: string, userId: number = process.getuid?.() ?? 0): void {
  for (const [given, stats] of partsOf(path)) {
    if (stats.uid !== 0 && stats.uid !== userId)
      throw refused(path, `${escapeText(given)} belongs to another user (${stats.uid})`);
    // In a folder such as /tmp nobody can replace what belongs to another user.
    const isShared = stats.isDirectory() && (stats.mode & STICKY) !== 0;
    const byGroup = (stats.mode & GROUP_WRITES) !== 0 && !isOwnGroup(stats.gid, userId);
    if (!isShared && (byGroup || (stats.mode & OTHERS_WRITE) !== 0))
      throw refused(path, `${escapeText(given)} can be written by other users`);
  }
}

const STICKY = 0o1000;
const GROUP_WRITES = 0o020;
const OTHERS_WRITE = 0o002;

/** The file and its folders up to the root: as they were named, and where links lead. */
function partsOf(path: string): Map<string, Stats> {
  const parts = new Map<string, Stats>();
  try {
    for (const start of [realpathSync(path), path]) {
      for (let part = start; !parts.has(part); part = dirname(part)) parts.set(part, statSync(part));
    }
  } catch (cause) {
    throw refused(path, describeError(cause), cause);
  }
  return parts;
}

const refused = (program: string, why: string, cause?: unknown): VproxyError =>
  new VproxyError('upgrade-failed', `${escapeText(program)} is not run as the successor: ${why}`, { cause });
