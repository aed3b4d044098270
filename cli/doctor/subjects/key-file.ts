/** A key file: there, a key, and nobody else's to read. */
import { constants } from 'node:fs';
import { toVproxyError } from '../../../lib/errors.js';
import { SecretKey } from '../../../lib/session/auth.js';
import { readSecretFile } from '../../../lib/system/files.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, type FindingRows, fail, findingsOf, ok, warn } from '../finding.js';
import type { Machine } from '../machine.js';
import { describeKind, formatAccess, isAllowed, lookAtPath } from '../path.js';

export const KEY_FINDINGS = {
  'key-good': ok('The file has a key, and nobody else can read it.'),
  'key-missing': fail('There is no key file.', 'vproxy genkey FILE, and a copy for the other side'),
  'key-denied': fail('This user cannot read the key file.', 'give the file to the user that vproxy runs as'),
  'key-not-file': fail('What is there is no file.', 'name the file of a key'),
  'key-owner': fail(
    'The key file belongs to somebody else than this user and root.',
    'chown it to the user that vproxy runs as',
  ),
  'key-open': fail(
    'Others can read or change the key file.',
    'chmod 600, and make a new key if others may have read this one',
  ),
  'key-invalid': fail('The file has no key: 64 hex digits and a newline.', 'vproxy genkey FILE makes one'),
  'key-differs': warn(
    'The running session was authenticated with a key that is in none of the files.',
    'SIGHUP lets vproxy read its key files again; both sides need the same key',
  ),
} as const satisfies FindingRows;

const finding = findingsOf(KEY_FINDINGS);

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
