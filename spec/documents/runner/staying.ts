/** Programs that run until the end of their scene: staying blocks, or programs that the scene starts itself. */
import { type ChildProcess, spawn } from 'node:child_process';
import { eventually } from '../../helpers/time.js';
import type { ReadyCheck } from './scene.js';

/** A running program. The caller that starts it stops it. */
export interface Staying {
  /** Its output so far, stdout and stderr. */
  readonly output: string;
  /** Stops it, and waits for its exit. */
  stop(): Promise<void>;
}

interface StayingOptions {
  /** Whether it is ready. */
  readonly isReady: ReadyCheck;
  /** Its name, for the error if it does not become ready. */
  readonly what: string;
  /** Default: this process's working folder. */
  readonly cwd?: string;
}

const READY_MS = 180_000;
const STOP_MS = 3_000;

/**
 * Starts a program in a process group of its own. Resolves when it is ready; rejects if it exits before, or on a timeout.
 */
export async function startStaying(words: readonly string[], options: StayingOptions): Promise<Staying> {
  const [program = '', ...args] = words;
  const child = spawn(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
    cwd: options.cwd ?? process.cwd(),
  });
  const staying = { output: '', stop: () => stopGroup(child) };
  const collect = (chunk: Buffer) => {
    staying.output += chunk.toString();
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  child.once('error', (error) => collect(Buffer.from(`${error.message}\n`)));
  let hasEnded = false;
  child.once('close', () => {
    hasEnded = true;
  });
  const look = async () => ((await options.isReady(staying.output)) ? 'ready' : hasEnded && 'ended');
  try {
    if ((await eventually(look, { timeoutMs: READY_MS })) === 'ended') throw new Error('it ended');
  } catch (error) {
    await staying.stop();
    throw new Error(`${options.what} is not ready (${(error as Error).message}):\n${staying.output}`, { cause: error });
  }
  return staying;
}

async function stopGroup(child: ChildProcess): Promise<void> {
  const { pid } = child;
  if (pid === undefined) return;
  const signal = (name: NodeJS.Signals | 0): boolean => {
    try {
      return process.kill(-pid, name);
    } catch {
      return false;
    }
  };
  if (!signal('SIGTERM')) return;
  await eventually(() => !signal(0), { timeoutMs: STOP_MS }).catch(() => signal('SIGKILL'));
}
