/** The programs of a run, which are started and stopped here. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { listTree } from './tree.js';

/** How a program is started. */
export interface ProgramOptions {
  readonly env?: Readonly<Record<string, string>>;
}

/** A running program. */
export interface RunningProgram {
  readonly pid: number;
  /** Whether it has exited by itself. */
  readonly hasEnded: boolean;
  /** The last line that it printed, for error messages. */
  lastLine(): string;
  /** Kills it and all its descendants, and waits for its exit. */
  stop(): Promise<void>;
}

/** More descriptors than the largest measurement needs: two for each of 10,000 streams, and reserve. */
const DESCRIPTORS = 40_960;

/** Raises the limit of descriptors as far as the system allows, then becomes the program. */
const RAISE_LIMIT = `ulimit -n ${DESCRIPTORS} 2>/dev/null || ulimit -n "$(ulimit -H -n)"`;

/** Starts programs, and remembers them until they are stopped. */
export class Programs {
  readonly #folder: string;
  readonly #running = new Set<RunningProgram>();
  #count = 0;
  #isStopped = false;

  /** Their output goes into files in `folder`. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** Starts a program by name (looked up in PATH) or path, without waiting for it. Throws after `stop`. */
  start(command: string, args: readonly string[], options: ProgramOptions = {}): RunningProgram {
    if (this.#isStopped) throw new Error(`cannot start ${command}: stopped`);
    this.#count += 1;
    const logPath = join(this.#folder, `program-${this.#count}.log`);
    const log = openSync(logPath, 'w');
    const child = spawnLimited(command, args, log, options);
    const program: RunningProgram = {
      pid: child.pid ?? 0,
      get hasEnded() {
        return child.exitCode !== null || child.signalCode !== null;
      },
      lastLine: () => readFileSync(logPath, 'utf8').trimEnd().split('\n').at(-1) ?? '',
      stop: async () => {
        this.#running.delete(program);
        await stopTree(child);
      },
    };
    this.#running.add(program);
    return program;
  }

  /** Counts a process that one of them started, and that outlives it, as one of them. */
  adopt(pid: number): RunningProgram {
    const program: RunningProgram = {
      pid,
      get hasEnded() {
        return listTree([pid]).length === 0;
      },
      lastLine: () => '',
      stop: () => {
        this.#running.delete(program);
        killTree(pid);
        return Promise.resolve();
      },
    };
    this.#running.add(program);
    return program;
  }

  /** Starts a script of this project's compiled output. */
  startScript(script: string, args: readonly string[], options?: ProgramOptions): RunningProgram {
    return this.start(process.execPath, [script, ...args], options);
  }

  /** Stops all of them, and refuses to start others. */
  async stop(): Promise<void> {
    this.#isStopped = true;
    await Promise.all([...this.#running].map((program) => program.stop()));
  }
}

/** The limit of descriptors of a program that is started here. */
export async function descriptorLimit(): Promise<number> {
  const child = spawn('sh', ['-c', `${RAISE_LIMIT}; ulimit -n`], { stdio: ['ignore', 'pipe', 'ignore'] });
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => (text += chunk.toString()));
  await once(child, 'close');
  return Number(text.trim()) || Infinity;
}

function spawnLimited(command: string, args: readonly string[], log: number, options: ProgramOptions): ChildProcess {
  return spawn('sh', ['-c', `${RAISE_LIMIT}; exec "$@"`, 'sh', command, ...args], {
    stdio: ['ignore', log, log],
    env: { ...process.env, ...options.env },
  });
}

async function stopTree(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = once(child, 'exit');
  killTree(child.pid);
  await exited;
}

/** Kills a process and all its descendants, as far as they exist. */
export function killTree(root: number): void {
  // SIGKILL: an orderly shutdown would wait for streams, and there is nothing to save.
  for (const { pid } of listTree([root])) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch {
      // It has exited by itself meanwhile.
    }
  }
}
