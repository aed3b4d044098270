/** `vproxy genkey`: generates a key for the two sides of a channel. */
import { randomBytes } from 'node:crypto';
import { closeSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { systemCode, VproxyError } from '../../lib/errors.js';
import { SecretKey } from '../../lib/session/opening/auth.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import type { Command } from '../command/command.js';
import { print } from '../ui/print.js';

export const command: Command = {
  usage: 'genkey [FILE]',
  about:
    'Generates a key, for --key on both sides of a channel, and prints it; or writes it to FILE, which must not exist yet, with mode 0600, and prints the id of the key on stderr.',
  examples: [
    ['vproxy genkey /etc/vproxy/vm1.key', 'Generate a key for both sides'],
    ["vproxy genkey | ssh vm1 'umask 077; cat > /etc/vproxy/vm1.key'", 'Store the key on another machine only'],
  ],
  options: {},
  isLocal: true,
  operands: ['[FILE]'],
  run({ operands: [file] }) {
    const bytes = randomBytes(32);
    const text = `${bytes.toString('hex')}\n`;
    if (file === undefined) {
      print(text);
    } else {
      writeNew(file, text);
      process.stderr.write(`vproxy: created ${escapeText(file)}, key ${SecretKey.fromBytes(bytes).id}\n`);
    }
    return Promise.resolve();
  },
};

/** Creates a file. Throws `cannot-create`, and then leaves no file behind. */
function writeNew(path: string, text: string): void {
  let fd: number;
  try {
    fd = openSync(path, 'wx', 0o600);
  } catch (cause) {
    const why = systemCode(cause) === 'EEXIST' ? 'already exists; left unchanged' : describeError(cause);
    throw new VproxyError('cannot-create', `${escapeText(path)}: ${why}`, { cause });
  }
  try {
    writeSync(fd, text);
  } catch (cause) {
    unlinkSync(path);
    throw new VproxyError('cannot-create', `${escapeText(path)}: ${describeError(cause)}`, { cause });
  } finally {
    closeSync(fd);
  }
}
