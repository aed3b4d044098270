/** Commands of vproxy from start to exit, beside Node itself: they take turns, so that each meets the same machine. */
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../../spec/helpers/time.js';
import { VPROXY_SCRIPT } from '../contenders/vproxy.js';
import { percentile } from '../load/echo.js';
import type { Programs } from '../process/programs.js';
import { type Command, timeCommand } from '../process/time-command.js';
import type { Outcomes, Work } from './work.js';

const SESSION_TIMEOUT_MS = 15_000;

/** The work's name and its row. */
export const COMMAND: Pick<Work, 'id' | 'rows'> = {
  id: 'command',
  rows: () => [{ key: 'ms', title: 'a command, start to exit', unit: 'ms' }],
};

/** The commands. */
export const COMMANDS: readonly { readonly id: string; readonly title: string }[] = [
  { id: 'node', title: 'node -e 0' },
  { id: 'version', title: 'vproxy --version' },
  { id: 'status', title: 'vproxy status' },
  { id: 'exec', title: 'vproxy exec true' },
];

/** Two sides, and the commands that run beside them and through them. */
export class CommandTimes {
  readonly #stop: () => Promise<void>;
  readonly #commands: ReadonlyMap<string, Command>;

  private constructor(stop: () => Promise<void>, commands: ReadonlyMap<string, Command>) {
    this.#stop = stop;
    this.#commands = commands;
  }

  /** Starts both sides. Rejects if no command runs through them. */
  static async start(programs: Programs, parent: string): Promise<CommandTimes> {
    const folder = mkdtempSync(join(parent, 'command-'));
    const [channel, control] = [join(folder, 'channel.sock'), join(folder, 'control.sock')];
    const sides = [
      programs.startScript(VPROXY_SCRIPT, ['-c', `unix-listen:${channel}`, '--control', control]),
      programs.startScript(VPROXY_SCRIPT, ['-c', `unix-connect:${channel}`, '--no-control', '--allow-exec']),
    ];
    const stop = async (): Promise<void> => {
      await Promise.all(sides.map((side) => side.stop()));
    };
    const exec = { file: process.execPath, args: [VPROXY_SCRIPT, 'exec', '--socket', control, 'true'] };
    try {
      const what = 'the first command';
      await eventually(() => timeCommand('vproxy exec', exec), { timeoutMs: SESSION_TIMEOUT_MS, what });
    } catch (error) {
      await stop();
      throw error;
    }
    const commands = new Map<string, Command>([
      ['node', { file: process.execPath, args: ['-e', '0'] }],
      ['version', { file: process.execPath, args: [VPROXY_SCRIPT, '--version'] }],
      ['status', { file: process.execPath, args: [VPROXY_SCRIPT, 'status', '--socket', control] }],
      ['exec', exec],
    ]);
    return new CommandTimes(stop, commands);
  }

  /** Runs each of them `count` times; medians by id. */
  async measure(count: number): Promise<Map<string, Outcomes>> {
    const times = new Map([...this.#commands.keys()].map((id) => [id, [] as number[]]));
    for (let run = 0; run < count; run += 1) {
      for (const [id, command] of this.#commands) times.get(id)?.push(await timeCommand(id, command));
    }
    return new Map([...times].map(([id, taken]) => [id, { ms: percentile(taken.sort(ascending), 0.5) }]));
  }

  /** Ends both sides. */
  stop(): Promise<void> {
    return this.#stop();
  }
}

const ascending = (a: number, b: number): number => a - b;
