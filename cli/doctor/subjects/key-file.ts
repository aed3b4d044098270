/** A key file: whether it exists, holds a key, and is private. */
import { toVproxyError } from '../../../lib/errors.js';
import type { Subject } from '../../../lib/remedies.js';
import { SecretKey } from '../../../lib/session/opening/auth.js';
import { readSecretFile } from '../../../lib/system/files/guarded-files.js';
import { escapeText } from '../../../lib/util/escape.js';
import { type Finding, failureOf, finding } from '../findings.js';
import type { Machine } from '../machine.js';
import { lookAtPath } from '../path.js';

/** Checks the file as vproxy does, and reveals nothing of its content but the id. */
export async function checkKeyFile(machine: Machine, path: string): Promise<Finding[]> {
  const { problem, stats } = await lookAtPath(machine, path);
  if (problem !== null) return [problem];
  const shown = escapeText(path);
  let subject: Subject = stats?.isFile() === true ? 'secret-file' : 'key-file';
  try {
    const text = readSecretFile(path, undefined, machine.options.userId);
    subject = 'key-file';
    return [finding('key-good', `${shown} has the key ${SecretKey.parse(text).id}`)];
  } catch (error) {
    return [failureOf(subject, error, { FILE: shown })];
  }
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
