/** Runs a program that an interrupt ends, with all that it started. */
import { type ExecFileOptions, execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { killTree } from '../bench/process/programs.js';

/** Resolves with its output. Rejects if it fails, or when it has exited because of `signal`. */
export async function runToEnd(
  file: string,
  words: readonly string[],
  { signal, ...options }: ExecFileOptions & { signal: AbortSignal },
): Promise<string> {
  signal.throwIfAborted();
  const running = promisify(execFile)(file, words, { ...options, encoding: 'utf8' });
  const { pid } = running.child;
  const stop = () => (pid === undefined ? undefined : killTree(pid));
  signal.addEventListener('abort', stop);
  try {
    return (await running).stdout;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
