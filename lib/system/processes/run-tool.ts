/** Runs system tools to completion, bounded in time and output. */
import { AsyncResource } from 'node:async_hooks';
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { type Clock, systemClock } from '../../util/clock.js';
import { atExit, followChild, ProcessGroup, startTurns } from './children.js';

export interface ToolLimits {
  readonly timeoutMs: number;
  /** Limit on standard output. Default 64 KiB, which is also how much of standard error is kept. */
  readonly maxBytes?: number;
  /** Kills the tool when aborted. */
  readonly signal?: AbortSignal;
  /** An abort, and the end of this process, leave the tool running. Default false. */
  readonly mayStay?: boolean;
  /** Its whole environment. Default: that of this process. */
  readonly env?: NodeJS.ProcessEnv;
  /**
   * False for a tool that opens a terminal: the first one opened by a session leader becomes the session's terminal, and is hung
   * up for everyone when the leader exits. Default true.
   */
  readonly hasOwnSession?: boolean;
  readonly clock?: Clock;
}

export interface ToolResult {
  /** Its exit status, the signal that ended it, or the reason why it was killed. */
  readonly end: number | NodeJS.Signals | 'too-slow' | 'too-long' | 'given-up';
  readonly stdout: string;
  readonly stderr: string;
}

const DEFAULT_BYTES = 65_536;

/**
 * Runs `words` without a shell and without input, by default in its own session: it then has no terminal on which to ask for a
 * password, and everything it starts is killed with it. Rejects with a system error if it cannot be started.
 */
export function runTool(words: readonly string[], limits: ToolLimits): Promise<ToolResult> {
  const {
    timeoutMs,
    maxBytes = DEFAULT_BYTES,
    signal,
    env,
    hasOwnSession = true,
    mayStay = false,
    clock = systemClock,
  } = limits;
  const [file = '', ...args] = words;
  const run = (resolve: (result: ToolResult) => void, reject: (error: Error) => void): void => {
    if (signal?.aborted === true) {
      resolve({ end: 'given-up', stdout: '', stderr: '' });
      return;
    }
    const child = spawn(file, args, {
      stdio: ['ignore', 'pipe', 'pipe'],
      detached: hasOwnSession,
      ...(env && { env }),
    });
    // Without descriptors, it has no outputs.
    if ((child as Partial<ChildProcess>).stdout === undefined) {
      child.once('error', reject);
      return;
    }
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    let stdoutBytes = 0;
    let stderrBytes = 0;
    // A process that it left in another group may keep its output open, even after its number was reused.
    const group = hasOwnSession && child.pid !== undefined ? new ProcessGroup(followChild(child)) : null;
    const kill = () => {
      if (group === null) child.kill('SIGKILL');
      else group.signal('SIGKILL');
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
      if (why !== 'given-up' || !mayStay) kill();
      // A process stuck in the kernel does not exit even then: do not wait for it.
      child.stdout.destroy();
      child.stderr.destroy();
      child.unref();
      finish(why);
    };
    const giveUp = () => killFor('given-up');
    const cancelAtExit = mayStay ? () => undefined : atExit(kill);
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
  };
  // In the context of the call, though another's callback starts it.
  return startTurns.queue(AsyncResource.bind(() => new Promise<ToolResult>(run)));
}

/** The error output of a failed tool in one line, or else how it ended. */
export function describeToolFailure(name: string, { end, stderr }: ToolResult): string {
  const said = stderr.trim().replace(/\s+/g, ' ');
  if (said !== '') return said;
  if (end === 'too-slow') return `${name} timed out`;
  if (end === 'too-long') return `${name} wrote too much output`;
  return end === 'given-up' ? `${name} was cancelled` : `${name} exited with ${end}`;
}

/**
 * Runs `words` synchronously and returns their output, or an empty text on failure: for process exit, and where nothing may
 * happen in between. `hasTerminal`: shares this process's standard input.
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
