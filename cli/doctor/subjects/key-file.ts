/** A key file: whether it exists, holds a key, and is private. */
import { constants } from 'node:fs';
import { toVproxyError } from '../../../lib/errors.js';
import { SecretKey } from '../../../lib/session/opening/auth.js';
import { readSecretFile } from '../../../lib/system/files/guarded-files.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { describeKind, formatAccess, isAllowed, lookAtPath } from '../path.js';

/** Checks the file as vproxy does, and reveals nothing of its content but the id. */
export async function checkKeyFile(machine: Machine, path: string): Promise<Finding[]> {
  const look = await lookAtPath(machine, path);
  if (look.problem !== null) return [look.problem];
  const shown = escapeText(path);
  const { stats } = look;
  if (stats === null)
    return [finding('key-missing', `${shown} does not exist`, `vproxy genkey ${shown}, and copy it to the other side`)];
  if (!stats.isFile()) return [finding('key-not-file', `${shown} is ${describeKind(stats)}`)];
  const { userId } = machine.options;
  if (stats.uid !== 0 && stats.uid !== userId) {
    return [finding('key-owner', `${shown} belongs to user ${stats.uid}, not to this one (${userId}) or root`)];
  }
  const isRoots = stats.uid === 0 && userId !== 0;
  if ((stats.mode & (isRoots ? 0o037 : 0o077)) !== 0) {
    return [finding('key-open', `others can read or change ${shown} (${formatAccess(stats)})`, `chmod 600 ${shown}`)];
  }
  if (!isAllowed(path, constants.R_OK)) {
    return [finding('key-denied', `this user cannot read ${shown} (${formatAccess(stats)})`)];
  }
  const id = keyIdOf(path);
  if (id === null)
    return [
      finding('key-invalid', `${shown} is not a key: ${stats.size} bytes instead of 64 hex digits and a newline`),
    ];
  return [finding('key-good', `${shown} has the key ${id}`)];
}

/** Returns the id of the key in a file; null if vproxy would not accept the file. */
function keyIdOf(path: string): string | null {
  try {
    return SecretKey.parse(readSecretFile(path)).id;
  } catch (error) {
    if (toVproxyError(error).code === 'bad-file') return null;
    throw error;
  }
}

/** Checks whether a running session was authenticated with the key of one of these files. */
export function checkSessionKey(key: string, paths: readonly string[]): Finding[] {
  const ids = paths.map((path) => keyIdOf(path));
  if (ids.includes(key)) return [];
  const shown = ids.map((id) => id ?? 'none').join(', ');
  return [finding('key-differs', `the session uses key ${key}, but the files have ${shown}`)];
}
