/** Files that hold a secret: read only where nobody else can read them. */
import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { VproxyError } from '../errors.js';
import { describeError } from './describe-error.js';
import { escapeText } from './escape.js';

/** The text of a small file that its owner alone can read. Throws `bad-file`, which names the file and shows nothing of it. */
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
    if ((mode & 0o170_000) !== 0o100_000) throw bad('it is no file');
    if ((mode & 0o077) !== 0) {
      throw bad(`others can read or change it (mode ${(mode & 0o777).toString(8).padStart(4, '0')}); chmod 600 it`);
    }
    const self = process.getuid?.();
    if (uid !== 0 && uid !== self) throw bad(`it belongs to another user (${uid})`);
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
