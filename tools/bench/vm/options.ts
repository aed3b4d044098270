/** The command line of `npm run bench:vm`. */
import { parseArgs } from 'node:util';
import { parseCount, parsePattern, parsePlace, UsageError } from '../options.js';
import type { VmAmounts } from './work.js';

/** What `--help` prints. */
export const VM_HELP = `npm run bench:vm -- [OPTIONS]

Measures vproxy in a real guest under QEMU, through one virtio-serial port: a forward to vproxy or vproxy-guest, and a
plain relay, from the port to the same target, a stream inside the process and the raw port, the first byte after the
guest was stopped or put back to a snapshot, a command by vproxy exec and by ssh with a ControlMaster.
Also measures, outside the guest, a keystroke next to a bulk stream on a simulated serial line of 9,600 to 115,200 baud,
because QEMU does not limit its own lines to their speed.

  --rounds N      number of rounds, interleaved over the contenders (5)
  --megabytes N   size of one transfer, in MB (48)
  --only REGEX    only work whose name matches: up, down, echo, beside-bulk, pauses, commands, serial-9600, …;
                  with ^serial, no guest is booted
  --documents     write the figures into docs/performance-notebook.md: the tables that were measured completely
  --json FILE     the file of the figures (bench-vm.json)
  --help          show this help
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
