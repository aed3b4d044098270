/** A command in a guest: by `vproxy exec`, and by ssh on an open connection through the same channel. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { eventually } from '../../../spec/helpers/time.js';
import type { Guest } from '../../../spec/vm/rig/guest.js';
import { HostSide } from '../../../spec/vm/rig/host-side.js';
import { Laboratory } from '../../../spec/vm/rig/laboratory.js';
import { sshArguments } from '../../../spec/vm/rig/ssh.js';
import { VPROXY_SCRIPT } from '../contenders/vproxy.js';
import { percentile } from '../load/echo.js';
import { type Command, timeCommand } from '../process/time-command.js';
import type { Bar } from '../report/bars.js';
import type { ResultRow, Results } from '../results.js';

/** The name that `--only` matches. */
export const COMMANDS_WORK = 'commands';

/** The number of runs in each round, after as many for warm-up. */
const COMMANDS = 10;

export const COMMANDS_ROWS: readonly ResultRow[] = [
  { work: COMMANDS_WORK, key: 'p50', title: 'true in the guest, start to exit, p50', unit: 'ms' },
  { work: COMMANDS_WORK, key: 'least', title: '  minimum', unit: 'ms' },
];

/** The ways to compare. */
export const COMMANDS_CONTENDERS = [
  { id: 'vproxy-exec', title: 'vproxy exec' },
  { id: 'ssh-master', title: 'ssh, ControlMaster' },
  { id: 'node', title: 'node -e 0, here' },
] as const;

/** The bar for `vproxy exec`. */
export const COMMANDS_BARS: readonly Bar[] = [
  {
    title: 'a command in the guest',
    work: COMMANDS_WORK,
    key: 'p50',
    of: 'vproxy-exec',
    beside: 'ssh-master',
    bound: 'most',
    bar: 1.5,
  },
];

/** Measures in a running guest, and leaves nothing running in it but its vproxy. */
export async function measureCommands(guest: Guest, rounds: number, results: Results): Promise<void> {
  const control = join(guest.folder, 'control.sock');
  const laboratory = await Laboratory.start(guest, {
    host: ({ channelPath }) => HostSide.start(`unix-connect:${channelPath}`, ['--control', control]),
    guestArgs: ({ portPath }) => ['-c', `virtserial-open:${portPath}`, '--allow-exec'],
  });
  const port = await laboratory.port('ssh');
  const ssh = ['-o', `ControlPath=${join(guest.folder, 'master')}`, ...sshArguments(guest, port)];
  const master = spawn(guest.tools.ssh, ['-o', 'ControlMaster=yes', '-N', ...ssh], { stdio: 'ignore' });
  const commands: Readonly<Record<string, Command>> = {
    'vproxy-exec': { file: process.execPath, args: [VPROXY_SCRIPT, 'exec', '--socket', control, 'true'] },
    'ssh-master': { file: guest.tools.ssh, args: [...ssh, 'true'] },
    node: { file: process.execPath, args: ['-e', '0'] },
  };
  try {
    await eventually(() => timeCommand('ssh -O check', { file: guest.tools.ssh, args: ['-O', 'check', ...ssh] }));
    for (let round = 0; round < rounds; round += 1) {
      const times = new Map<string, number[]>(Object.keys(commands).map((id) => [id, []]));
      // In turn, so that each meets the same machine.
      for (let count = 0; count < 2 * COMMANDS; count += 1) {
        for (const [id, command] of Object.entries(commands)) {
          const tookMs = await timeCommand(id, command);
          if (count >= COMMANDS) times.get(id)?.push(tookMs);
        }
      }
      for (const [id, taken] of times) {
        taken.sort((a, b) => a - b);
        results.add(COMMANDS_WORK, id, { p50: percentile(taken, 0.5), least: taken[0] ?? Number.NaN });
      }
    }
  } finally {
    master.kill();
    await laboratory.stop();
  }
}
