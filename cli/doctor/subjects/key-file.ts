/** A key file: there, a key, and nobody else's to read. */
import { constants } from 'node:fs';
import { toVproxyError } from '../../../lib/errors.js';
import { SecretKey } from '../../../lib/session/opening/auth.js';
import { readSecretFile } from '../../../lib/system/files/guarded-files.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { describeKind, formatAccess, isAllowed, lookAtPath } from '../path.js';

/** Looks at the file as vproxy does, and says nothing of what is in it but the id. */
export async function checkKeyFile(machine: Machine, path: string): Promise<Finding[]> {
  const look = await lookAtPath(machine, path);
  if (look.problem !== null) return [look.problem];
  const shown = escapeText(path);
  const { stats } = look;
  if (stats === null)
    return [finding('key-missing', `there is no ${shown}`, `vproxy genkey ${shown}, and a copy for the other side`)];
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
    return [finding('key-invalid', `${shown} has no key: 64 hex digits and a newline (it has ${stats.size} bytes)`)];
  return [finding('key-good', `${shown} has the key ${id}`)];
}

/** The id of the key in a file; null where it has no key that vproxy would take. */
function keyIdOf(path: string): string | null {
  try {
    return SecretKey.parse(readSecretFile(path)).id;
  } catch (error) {
    if (toVproxyError(error).code === 'bad-file') return null;
    throw error;
  }
}

/** Whether a running session was authenticated with the key of one of these files. */
export function checkSessionKey(key: string, paths: readonly string[]): Finding[] {
  const ids = paths.map((path) => keyIdOf(path));
  if (ids.includes(key)) return [];
  const shown = ids.map((id) => id ?? 'none').join(', ');
  return [finding('key-differs', `the session has the key ${key}, and the files have ${shown}`)];
}
