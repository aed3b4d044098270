/** A program of the system that is asked for something: run to its end, but for no longer and with no more output than given. */
import { spawn } from 'node:child_process';
import type { Clock } from '../util/clock.js';
import { atExit, signalChildGroup } from './children.js';

export interface ProgramLimits {
  /** Kills it when it is aborted. */
  readonly signal: AbortSignal;
  readonly clock: Clock;
  readonly timeoutMs: number;
  /** Of standard output; of standard error the first 64 KiB are kept. */
  readonly maxBytes: number;
}

/** What a program left behind. */
export interface ProgramResult {
  /** Its exit status; or the signal that ended it; or why it was killed. */
  readonly end: number | NodeJS.Signals | 'too-slow' | 'too-long' | 'given-up';
  readonly stdout: string;
  readonly stderr: string;
}

const MAX_STDERR_BYTES = 65_536;

/**
 * Runs `words` without a shell, without input, and in a session of its own: it has no terminal on which it could ask for
 * a password, and what it starts is killed along with it. Rejects with an error of the system where it cannot be started.
 */
export function runProgram(words: readonly string[], limits: ProgramLimits): Promise<ProgramResult> {
  const { signal, clock, timeoutMs, maxBytes } = limits;
  const [file = '', ...args] = words;
  if (signal.aborted) return Promise.resolve({ end: 'given-up', stdout: '', stderr: '' });
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let stdoutBytes = 0;
    let stderrBytes = 0;
    const kill = () => signalChildGroup(child.pid, 'SIGKILL');
    const settle = () => {
      cancelAtExit();
      cancelTimeout();
      signal.removeEventListener('abort', giveUp);
    };
    const finish = (end: ProgramResult['end']) => {
      settle();
      resolve({ end, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
    };
    const killFor = (why: 'too-slow' | 'too-long' | 'given-up') => {
      kill();
      // One that hangs in the system is not even ended by this; nobody waits for it.
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      finish(why);
    };
    const giveUp = () => killFor('given-up');
    const cancelAtExit = atExit(kill);
    const cancelTimeout = clock.schedule(timeoutMs, () => killFor('too-slow'));
    signal.addEventListener('abort', giveUp);
    child.stdout.on('data', (bytes: Buffer) => {
      stdoutBytes += bytes.length;
      if (stdoutBytes <= maxBytes) stdout.push(bytes);
      else killFor('too-long');
    });
    child.stderr.on('data', (bytes: Buffer) => {
      if (stderrBytes < MAX_STDERR_BYTES) stderr.push(bytes.subarray(0, MAX_STDERR_BYTES - stderrBytes));
      stderrBytes += bytes.length;
    });
    child.once('error', (error) => {
      settle();
      reject(error);
    });
    child.once('close', (status, killedBy) => finish(killedBy ?? status ?? 0));
  });
}
