/**
 * A storage call from the start of the utility to its exit: the wrapper through broker, channel and emulator, beside
 * scripts that ask the same emulator directly over a unix socket.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { eventually } from '../../../spec/helpers/time.js';
import { STORAGE_SCRIPT, VPROXY_SCRIPT } from '../contenders/vproxy.js';
import { percentile } from '../load/echo.js';
import { findProgram } from '../process/find-program.js';
import type { Programs, RunningProgram } from '../process/programs.js';
import { type Command, timeCommand } from '../process/time-command.js';
import type { Outcomes, Work } from './work.js';

const CALL_TIMEOUT_MS = 15_000;
const ARGUMENTS = ['/c0', 'show'];
const REPLIES = { replies: [], default: { stdout: ['Controller = 0', 'Status = Success'], status: 0 } };

/** The work's name and its row. */
export const STORAGE_CALL: Pick<Work, 'id' | 'rows'> = {
  id: 'storage-call',
  rows: () => [{ key: 'ms', title: 'a storage call, start to exit', unit: 'ms' }],
};

/** The callers. */
export const STORAGE_CALLERS: readonly { readonly id: string; readonly title: string }[] = [
  { id: 'vproxy-storage', title: 'vproxy-storage' },
  { id: 'node-script', title: 'a Node script' },
  { id: 'python-script', title: 'a Python script' },
];

/** An emulator, a broker and the channel between them. */
export class StorageCalls {
  readonly #programs: readonly RunningProgram[];
  readonly #commands: ReadonlyMap<string, Command | string>;

  private constructor(programs: readonly RunningProgram[], commands: ReadonlyMap<string, Command | string>) {
    this.#programs = programs;
    this.#commands = commands;
  }

  /** Starts everything that answers the calls. Rejects if a call gets no answer. */
  static async start(programs: Programs, parent: string): Promise<StorageCalls> {
    const folder = mkdtempSync(join(parent, 'storage-'));
    const path = (name: string): string => join(folder, name);
    writeFileSync(path('replies.json'), JSON.stringify(REPLIES));
    symlinkSync(STORAGE_SCRIPT, path('storcli64'));
    const vproxy = (...args: string[]) => programs.startScript(VPROXY_SCRIPT, args);
    const calls = new StorageCalls(
      [
        vproxy('storage-emulator', '--replies', path('replies.json'), '--listen', path('emulator.sock')),
        vproxy('-c', `unix-listen:${path('channel.sock')}`, '--storage-socket', path('broker.sock'), '--no-control'),
        vproxy('-c', `unix-connect:${path('channel.sock')}`, '-i', `storage:${path('emulator.sock')}`, '--no-control'),
      ],
      callerCommands(path),
    );
    try {
      const what = 'the first storage call';
      await eventually(async () => (await calls.call('vproxy-storage')) > 0, { timeoutMs: CALL_TIMEOUT_MS, what });
    } catch (error) {
      await calls.stop();
      throw error;
    }
    return calls;
  }

  /**
   * Makes `count` calls as one of the callers; resolves with their median, or with the reason why a caller is not available.
   */
  async measure(caller: string, count: number): Promise<Outcomes> {
    try {
      const times: number[] = [];
      for (let call = 0; call < count; call += 1) times.push(await this.call(caller));
      return {
        ms: percentile(
          times.sort((a, b) => a - b),
          0.5,
        ),
      };
    } catch (error) {
      return { ms: error instanceof Error ? error.message : String(error) };
    }
  }

  /** Makes one call; resolves with its duration in milliseconds. */
  async call(caller: string): Promise<number> {
    const command = this.#commands.get(caller);
    if (typeof command !== 'object') throw new Error(command ?? `there is no caller ${caller}`);
    return timeCommand(caller, { ...command, args: [...command.args, ...ARGUMENTS] });
  }

  /** Stops everything that answers the calls. */
  async stop(): Promise<void> {
    await Promise.all(this.#programs.map((program) => program.stop()));
  }
}

function callerCommands(path: (name: string) => string): Map<string, Command | string> {
  const socket = path('emulator.sock');
  const python = findPython();
  return new Map<string, Command | string>([
    [
      'vproxy-storage',
      { file: process.execPath, args: [path('storcli64')], env: { VPROXY_STORAGE_SOCKET: path('broker.sock') } },
    ],
    [
      'node-script',
      {
        file: process.execPath,
        args: [join(PROJECT_ROOT, 'dist/tools/bench/peers/storage-call.js'), socket, 'storcli64'],
      },
    ],
    [
      'python-script',
      python === undefined
        ? 'missing: apt-get install python3'
        : { file: python, args: [join(PROJECT_ROOT, 'tools/bench/peers/storage-call.py'), socket, 'storcli64'] },
    ],
  ]);
}

/** The interpreter itself: the program in PATH may be a script that looks for it. */
function findPython(): string | undefined {
  const found = findProgram('python3');
  if (found === undefined) return undefined;
  const ask = ['-c', 'import sys; print(sys.executable)'];
  return execFileSync(found, ask, { encoding: 'utf8', timeout: CALL_TIMEOUT_MS }).trim();
}
