/** `vproxy pipe-create`: makes the FIFOs of QEMU's pipe chardev. */
import { createFifos, type FifoOptions } from '../../lib/channel/pipe-open.js';
import { VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { formatFifoLine } from '../tmpfiles-line.js';
import { print } from '../ui/print.js';

const DEFAULT_MODE = '0660';

/** The command. */
export const command: Command = {
  usage: 'pipe-create /PATH [--mode MODE] [--owner USER[:GROUP]]',
  about:
    "Makes the FIFOs /PATH.in and /PATH.out of QEMU's pipe chardev, and /PATH, and prints the lines for tmpfiles.d(5) that make them again. PATH is absolute.",
  options: {
    mode: { value: 'MODE', describe: `Their permissions, in octal [default: ${DEFAULT_MODE}]` },
    owner: { value: 'USER[:GROUP]', describe: 'Who shall own them, such as the user that QEMU runs as' },
  },
  isLocal: true,
  operands: ['/PATH'],
  run: createPipe,
};

async function createPipe(args: Arguments): Promise<void> {
  const { path, options } = parsePipe(args);
  const fifos = await createFifos(path, options);
  const [user, group] = options.owner?.split(':') ?? [];
  for (const { path: file, isOld, uid, gid } of fifos) {
    process.stderr.write(`vproxy: ${isOld ? 'kept' : 'made'} ${escapeText(file)}\n`);
    print(`${formatFifoLine(file, options.mode, user ?? String(uid), group ?? String(gid))}\n`);
  }
}

function parsePipe(args: Arguments): { path: string; options: FifoOptions } {
  const [path = ''] = args.operands;
  const mode = args.text('mode') ?? DEFAULT_MODE;
  const owner = args.text('owner');
  if (!/^\/(.*[^/])?$/s.test(path) || path === '/' || path.includes('\0')) {
    throw bad('pipe-create', path, 'is not the absolute path of a file');
  }
  if (!/^0?[0-7]{3}$/.test(mode)) throw bad('--mode', mode, 'is not a mode of three octal digits, such as 0660');
  if (owner !== undefined && !/^[\w.][\w.@$-]*(:[\w.][\w.@$-]*)?$/.test(owner)) {
    throw bad('--owner', owner, 'is not USER or USER:GROUP');
  }
  return { path, options: { mode: Number.parseInt(mode, 8), owner: owner ?? null } };
}

function bad(option: string, value: string, what: string): VproxyError {
  return new VproxyError('bad-argument', `${option}: "${escapeText(value, 64)}" ${what}`);
}
