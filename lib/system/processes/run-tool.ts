/** A program of the system that is asked for something, or told to do something: run to its end, bounded in time and in output. */
import { spawn, spawnSync } from 'node:child_process';
import { type Clock, systemClock } from '../../util/clock.js';
import { atExit, signalGroup } from './children.js';

export interface ToolLimits {
  readonly timeoutMs: number;
  /** Of standard output. Default 64 KiB, which is also what is kept of standard error. */
  readonly maxBytes?: number;
  /** Kills it when it is aborted. */
  readonly signal?: AbortSignal;
  /** Its whole environment. Default: that of this process. */
  readonly env?: NodeJS.ProcessEnv;
  /**
   * False where it opens a terminal: the first one that the leader of a session opens becomes that session's, and is hung up
   * for everyone when the leader ends. Default true.
   */
  readonly hasOwnSession?: boolean;
  readonly clock?: Clock;
}

/** What a tool left behind. */
export interface ToolResult {
  /** Its exit status; or the signal that ended it; or why it was killed. */
  readonly end: number | NodeJS.Signals | 'too-slow' | 'too-long' | 'given-up';
  readonly stdout: string;
  readonly stderr: string;
}

const DEFAULT_BYTES = 65_536;

/**
 * Runs `words` without a shell, without input, and by default in a session of its own: it has no terminal on which it could
 * ask for a password, and what it starts is killed along with it. Rejects with an error of the system where it cannot be
 * started.
 */
export function runTool(words: readonly string[], limits: ToolLimits): Promise<ToolResult> {
  const { timeoutMs, maxBytes = DEFAULT_BYTES, signal, env, hasOwnSession = true, clock = systemClock } = limits;
  const [file = '', ...args] = words;
  if (signal?.aborted === true) return Promise.resolve({ end: 'given-up', stdout: '', stderr: '' });
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: hasOwnSession,
      ...(env && { env }),
    });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let stdoutBytes = 0;
    let stderrBytes = 0;
    const kill = () => {
      if (!hasOwnSession) child.kill('SIGKILL');
      else if (child.pid !== undefined) signalGroup(child.pid, 'SIGKILL');
    };
    const settle = () => {
      cancelAtExit();
      cancelTimeout();
      signal?.removeEventListener('abort', giveUp);
    };
    const finish = (end: ToolResult['end']) => {
      settle();
      resolve({ end, stdout: Buffer.concat(stdout).toString(), stderr: Buffer.concat(stderr).toString() });
    };
    const killFor = (why: 'too-slow' | 'too-long' | 'given-up') => {
      kill();
      // One that hangs in the system does not even end then, and is not waited for.
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      finish(why);
    };
    const giveUp = () => killFor('given-up');
    const cancelAtExit = atExit(kill);
    const cancelTimeout = clock.schedule(timeoutMs, () => killFor('too-slow'));
    signal?.addEventListener('abort', giveUp);
    child.stdout.on('data', (bytes: Buffer) => {
      stdoutBytes += bytes.length;
      if (stdoutBytes <= maxBytes) stdout.push(bytes);
      else killFor('too-long');
    });
    child.stderr.on('data', (bytes: Buffer) => {
      if (stderrBytes < DEFAULT_BYTES) stderr.push(bytes.subarray(0, DEFAULT_BYTES - stderrBytes));
      stderrBytes += bytes.length;
    });
    child.once('error', (error) => {
      settle();
      reject(error);
    });
    child.once('close', (status, killedBy) => finish(killedBy ?? status ?? 0));
  });
}

/** What a tool that failed said, in one line, or else how it ended. */
export function describeToolFailure(name: string, { end, stderr }: ToolResult): string {
  const said = stderr.trim().replace(/\s+/g, ' ');
  if (said !== '') return said;
  if (end === 'too-slow') return `${name} did not answer in time`;
  if (end === 'too-long') return `${name} printed too much`;
  return end === 'given-up' ? `${name} was given up` : `${name} ended with ${end}`;
}

/**
 * Runs `words` while everything else waits, and gives what they printed, empty where they failed: for the exit of the
 * process, and where nothing may come between. `hasTerminal`: the standard input is that of this process.
 */
export function runToolNow(
  [file = '', ...args]: readonly string[],
  { timeoutMs, hasTerminal = false }: { readonly timeoutMs: number; readonly hasTerminal?: boolean },
): string {
  const { error, stdout } = spawnSync(file, args, {
    stdio: [hasTerminal ? 'inherit' : 'ignore', 'pipe', 'ignore'],
    timeout: timeoutMs,
    killSignal: 'SIGKILL',
    encoding: 'utf8',
  });
  return error === undefined ? stdout : '';
}
