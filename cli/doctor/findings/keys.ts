/** Findings about key files. */
import { type FindingRows, fail, ok, warn } from './row.js';

/** By id. */
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
