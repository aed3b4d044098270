/** The command line of `npm run bench:vm`. */
import { parseArgs } from 'node:util';
import { parseCount, parsePattern, parsePlace, UsageError } from '../options.js';
import type { VmAmounts } from './work.js';

/** What `--help` prints. */
export const VM_HELP = `npm run bench:vm -- [OPTIONS]

Measures vproxy in a real guest under QEMU, through one virtio-serial port: a forward beside a plain relay from the port to
the same target, and a stream inside the process beside the raw port; a command by vproxy exec beside ssh with a
ControlMaster. Beside that, outside the guest, a keystroke beside a bulk stream on a simulated serial line of 9,600 to
115,200 baud: QEMU does not hold its lines to their speed.

  --rounds N      rounds, interleaved over the contenders (5)
  --megabytes N   millions of bytes of one transfer (48)
  --only REGEX    only the work whose name matches: up, down, echo, beside-bulk, commands, serial-9600, …;
                  no guest is booted for ^serial
  --documents     writes the tables of which everything was measured into docs/performance.md
  --json FILE     where the figures go (bench-vm.json)
  --help          this
`;

/** The options of a run. */
export interface VmBenchOptions {
  readonly help: boolean;
  readonly rounds: number;
  readonly only: RegExp;
  readonly documents: boolean;
  readonly json: string;
  readonly amounts: VmAmounts;
}

/** Parses the arguments. Throws `UsageError`. */
export function parseVmOptions(args: readonly string[]): VmBenchOptions {
  const values = parseValues(args);
  return {
    help: values.help,
    rounds: parseCount('--rounds', values.rounds),
    only: parsePattern(values.only),
    documents: values.documents,
    json: parsePlace('--json', 'a file', values.json),
    amounts: { bytes: 1e6 * parseCount('--megabytes', values.megabytes), echoes: 500, besideMs: 5000 },
  };
}

function parseValues(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        rounds: { type: 'string', default: '5' },
        megabytes: { type: 'string', default: '48' },
        only: { type: 'string', default: '' },
        documents: { type: 'boolean', default: false },
        json: { type: 'string', default: 'bench-vm.json' },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    // The first sentence has the error; the rest explains Node's conventions.
    throw new UsageError((error as Error).message.split(/[.\n]/)[0] ?? '');
  }
}
