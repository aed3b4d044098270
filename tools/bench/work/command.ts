/**
 * Commands of vproxy from start to exit, beside Node itself, and `true` on the peer by vproxy and by ssh: they take turns, so that
 * each meets the same machine.
 */
import { mkdtempSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { collectOutput, connectControl } from '../../../lib/index.js';
import { eventually } from '../../../spec/helpers/time.js';
import { CLIENT_OPTIONS, ssh, startSshServer } from '../contenders/ssh.js';
import { VPROXY_SCRIPT } from '../contenders/vproxy.js';
import { percentile } from '../load/echo.js';
import { findProgram } from '../process/find-program.js';
import type { Programs } from '../process/programs.js';
import { type Command, timeCommand } from '../process/time-command.js';
import type { Column } from '../report/figures-table.js';
import { NOT_TRIED, type Outcomes, type Work } from './work.js';

const START_TIMEOUT_MS = 15_000;

/** Commands that are started at a time. */
const PARALLEL = 40;

/** The work's name and its row. */
export const COMMAND: Pick<Work, 'id' | 'rows'> = {
  id: 'command',
  rows: () => [{ key: 'ms', title: 'a command, start to exit', unit: 'ms' }],
};

/** The commands. */
export const COMMANDS: readonly Column[] = [
  { id: 'node', title: 'node -e 0' },
  { id: 'version', title: 'vproxy --version' },
  { id: 'status', title: 'vproxy status' },
  { id: 'exec', title: 'vproxy exec true' },
];

/** Commands on the peer, one after the other and many at a time. */
export const REMOTE_COMMAND: Pick<Work, 'id' | 'rows'> = {
  id: 'remote-command',
  rows: () => [
    { key: 'ms', title: 'true, start to exit', unit: 'ms' },
    { key: 'parallel', title: `  ${PARALLEL} of them by parallel -j${PARALLEL}`, unit: 'ms' },
  ],
};

/** The ways to run them. */
export const REMOTE_COMMANDS: readonly Column[] = [
  { id: 'exec', title: 'vproxy exec' },
  { id: 'library', title: 'a warm program' },
  { id: 'ssh-master', title: 'ssh, ControlMaster' },
  { id: 'ssh', title: 'ssh' },
  { id: 'local', title: 'here' },
];

/** Does something once; resolves with milliseconds. */
type Timed = () => Promise<number>;

/** Two sides, with an sshd beside them if it is wanted, and the commands that run beside them and through them. */
export class CommandTimes {
  readonly #programs: readonly { stop(): Promise<void> }[];
  readonly #commands: ReadonlyMap<string, Command | Timed>;

  private constructor(programs: readonly { stop(): Promise<void> }[], commands: ReadonlyMap<string, Command | Timed>) {
    this.#programs = programs;
    this.#commands = commands;
  }

  /** Starts both sides, and what the commands of these ids need. Rejects if one of them does not run. */
  static async start(programs: Programs, parent: string, wanted: readonly Column[]): Promise<CommandTimes> {
    const folder = mkdtempSync(join(parent, 'command-'));
    const [channel, control] = [join(folder, 'channel.sock'), join(folder, 'control.sock')];
    const running = [
      programs.startScript(VPROXY_SCRIPT, ['-c', `unix-listen:${channel}`, '--control', control]),
      programs.startScript(VPROXY_SCRIPT, ['-c', `unix-connect:${channel}`, '--no-control', '--allow-exec']),
    ];
    const vproxy = (...args: string[]): Command => ({ file: process.execPath, args: [VPROXY_SCRIPT, ...args] });
    const commands = new Map<string, Command | Timed>([
      ['node', { file: process.execPath, args: ['-e', '0'] }],
      ['version', vproxy('--version')],
      ['status', vproxy('status', '--socket', control)],
      ['exec', vproxy('exec', '--socket', control, 'true')],
      ['library', () => timeCall(control)],
      ['local', { file: 'true', args: [] }],
    ]);
    const times = new CommandTimes(running, commands);
    try {
      const isWanted = (id: string): boolean => wanted.some((column) => column.id === id);
      for (const id of commands.keys()) if (!isWanted(id)) commands.delete(id);
      if (isWanted('ssh') && ssh.missing() === undefined) {
        const server = await startSshServer(programs, folder);
        running.push(server.program);
        const args = ['-F', 'none', '-p', `${server.port}`, '-i', server.keyFile, `${userInfo().username}@127.0.0.1`];
        const options = CLIENT_OPTIONS.flatMap((option) => ['-o', option]);
        const master = ['-o', `ControlPath=${join(folder, 'master')}`];
        running.push(programs.start('ssh', ['-M', '-N', ...master, ...options, ...args]));
        commands.set('ssh', { file: 'ssh', args: [...options, ...args, 'true'] });
        commands.set('ssh-master', { file: 'ssh', args: [...master, ...options, ...args, 'true'] });
      }
      for (const [id, command] of commands)
        await eventually(() => timeOnce(id, command), { timeoutMs: START_TIMEOUT_MS, what: `the first ${id}` });
    } catch (error) {
      await times.stop();
      throw error;
    }
    return times;
  }

  /** Runs each of them `count` times; medians by id. */
  async measure(count: number): Promise<Map<string, Outcomes>> {
    const times = new Map([...this.#commands.keys()].map((id) => [id, [] as number[]]));
    for (let run = 0; run < count; run += 1) {
      for (const [id, command] of this.#commands) times.get(id)?.push(await timeOnce(id, command));
    }
    return new Map([...times].map(([id, taken]) => [id, { ms: percentile(taken.sort(ascending), 0.5) }]));
  }

  /** Runs many of each at a time; the time of all, by id. Those of ssh say what is missing. */
  async measureParallel(): Promise<Map<string, Outcomes>> {
    const missing = `${NOT_TRIED}: ${ssh.missing()}`;
    const outcomes = new Map<string, Outcomes>(
      ['ssh-master', 'ssh'].map((id) => [id, { ms: missing, parallel: missing }]),
    );
    for (const [id, command] of this.#commands)
      outcomes.set(id, typeof command === 'function' ? {} : { parallel: await timeCommand(id, inParallel(command)) });
    return outcomes;
  }

  /** Ends both sides, and what is beside them. */
  async stop(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.stop()));
  }
}

const timeOnce = (id: string, command: Command | Timed): Promise<number> =>
  typeof command === 'function' ? command() : timeCommand(id, command);

/** `true` on the peer, as a program that keeps running calls it. */
async function timeCall(control: string): Promise<number> {
  const startedAt = performance.now();
  const call = await connectControl(control).exec(['true'], { hasInput: false });
  const { status } = await collectOutput(call);
  if (status !== 0) throw new Error(`true ended with status ${status}`);
  return performance.now() - startedAt;
}

/** By GNU parallel, or else by xargs, which takes less time itself. */
function inParallel({ file, args }: Command): Command {
  const starter = findProgram('parallel') === undefined ? 'xargs -I%% -P' : 'parallel --will-cite -N0 -j';
  return { file: 'sh', args: ['-c', `seq ${PARALLEL} | ${starter} ${PARALLEL} "$@"`, 'sh', file, ...args] };
}

const ascending = (a: number, b: number): number => a - b;
