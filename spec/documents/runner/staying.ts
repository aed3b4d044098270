/** A program that runs until the end of its scene: a block that stays, or a program that the scene starts itself. */
import { type ChildProcess, spawn } from 'node:child_process';
import { eventually } from '../../helpers/time.js';
import type { ReadyCheck } from './scene.js';

/** A running program. The caller that starts it stops it. */
export interface Staying {
  /** What it has printed so far, both outputs. */
  readonly output: string;
  /** Ends it, and waits until it is gone. */
  stop(): Promise<void>;
}

interface StayingOptions {
  /** When it is ready. */
  readonly isReady: ReadyCheck;
  /** What it is, for the error where it does not get ready. */
  readonly what: string;
  /** Default: this process's working folder. */
  readonly cwd?: string;
}

const READY_MS = 180_000;
const STOP_MS = 3_000;

/**
 * Starts a program in a process group of its own. Resolves when it is ready; rejects where it ends before, or takes too
 * long.
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
