/** Files that hold a secret: read only where nobody else can read them. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { VproxyError } from '../errors.js';
import { describeError } from './describe-error.js';
import { escapeText } from './escape.js';

/** The text of a small file that its owner alone can read; where that is root, also a group that this process is in. Throws `bad-file`, which names the file and shows nothing of it. */
export function readSecretFile(path: string, maxBytes = 4096): string {
  const bad = (why: string, cause?: unknown) => new VproxyError('bad-file', `${escapeText(path)}: ${why}`, { cause });
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (error) {
    throw bad(describeError(error), error);
  }
  try {
    const { mode, uid } = fstatSync(fd);
    const self = process.getuid?.();
    if ((mode & 0o170_000) !== 0o100_000) throw bad('it is no file');
    if (uid !== 0 && uid !== self) throw bad(`it belongs to another user (${uid})`);
    // So systemd hands credentials to the user of a service: they are root's, and an ACL shows as a group that may read.
    const isRoots = uid === 0 && self !== 0;
    if ((mode & (isRoots ? 0o037 : 0o077)) !== 0) {
      throw bad(`others can read or change it (mode ${(mode & 0o777).toString(8).padStart(4, '0')}); chmod 600 it`);
    }
    const bytes = Buffer.alloc(maxBytes + 1);
    const count = readSync(fd, bytes);
    const text = bytes.toString('latin1', 0, count);
    bytes.fill(0);
    if (count > maxBytes) throw bad(`it has more than ${maxBytes} bytes`);
    return text;
  } finally {
    closeSync(fd);
  }
}
