/** Measures how long a command takes, from its start to its exit. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { within } from '../../../spec/helpers/time.js';

const TIMEOUT_MS = 15_000;

/** A command line. */
export interface Command {
  readonly file: string;
  readonly args: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

/** Runs it without input, and drops its output, as of a command in a pipe; resolves with milliseconds. Rejects when it fails or times out. */
export async function timeCommand(name: string, { file, args, env }: Command): Promise<number> {
  const startedAt = performance.now();
  const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'ignore'], env: { ...process.env, ...env } });
  child.stdout.resume();
  try {
    const [status] = (await within(TIMEOUT_MS, name, once(child, 'exit'))) as [number | null];
    if (status !== 0) throw new Error(`${name} ended with status ${status ?? 'none'}`);
    return performance.now() - startedAt;
  } finally {
    child.kill('SIGKILL');
  }
}
