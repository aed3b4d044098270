/** `vproxy pipe-create`: makes the FIFOs of QEMU's pipe chardev. */
import type { CommandModule } from 'yargs';
import type { FifoOptions } from '../../lib/channel/create-fifos.js';
import { VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';
import { formatFifoLine } from '../tmpfiles-line.js';

/** The arguments of the command. */
export interface PipeCreateArguments {
  /** The chardev's path; `.in` and `.out` are put behind it. */
  readonly path: string;
  /** Permission bits in octal. */
  readonly mode: string;
  /** `USER` or `USER:GROUP`. */
  readonly owner?: string | undefined;
}

/** The command for yargs. */
export const pipeCreateCommand: CommandModule<object, PipeCreateArguments> = {
  command: 'pipe-create <path>',
  describe: "Make the FIFOs of QEMU's pipe chardev",
  builder: (yargs) =>
    yargs
      .positional('path', {
        type: 'string',
        demandOption: true,
        describe: 'Absolute path of the chardev; /path, /path.in and /path.out are made',
      })
      .option('mode', {
        type: 'string',
        default: '0660',
        requiresArg: true,
        describe: 'Their permissions, in octal',
      })
      .option('owner', {
        type: 'string',
        requiresArg: true,
        describe: 'USER[:GROUP] who shall own them, such as the one QEMU runs as',
      }),
  handler: async (args) => {
    const { path, options } = parseArguments(args);
    // Other commands need not wait for this to be loaded.
    const { createFifos } = await import('../../lib/channel/create-fifos.js');
    const fifos = await createFifos(path, options);
    const [user, group] = options.owner?.split(':') ?? [];
    for (const { path: file, isOld, uid, gid } of fifos) {
      process.stderr.write(`vproxy: ${isOld ? 'kept' : 'made'} ${escapeText(file)}\n`);
      process.stdout.write(`${formatFifoLine(file, options.mode, user ?? String(uid), group ?? String(gid))}\n`);
    }
  },
};

function parseArguments({ path, mode, owner }: PipeCreateArguments): { path: string; options: FifoOptions } {
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
