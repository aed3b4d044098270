/** A command that runs for as long as somebody needs it, together with all processes that it starts. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import type { Clock } from '../util/clock.js';
import { atExit } from './at-exit.js';

/** A running command. Whoever started it calls `end`. */
export interface Child {
  /** The command's standard input. */
  readonly input: Writable;
  /** The command's standard output. */
  readonly output: Readable;
  /** How it ended, for people: `it ended with status 1`. */
  readonly exited: Promise<string>;
  /**
   * Waits `patienceMs` for the command to end by itself, then has it ended: by SIGTERM, and by SIGKILL 250 ms later.
   * Resolves when it has ended, with how.
   */
  end(patienceMs: number): Promise<string>;
}

/**
 * Starts `/bin/sh -c command` in a session of its own, so that a signal reaches all of its processes; it has no
 * terminal. Its standard error is this process's own. Rejects with an error of the system.
 */
export async function startChild(command: string, clock: Clock): Promise<Child> {
  const child: ChildProcessByStdio<Writable, Readable, null> = spawn('/bin/sh', ['-c', command], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  const exited = new Promise<string>((resolve) => {
    child.once('exit', (code, signal) =>
      resolve(signal === null ? `it ended with status ${code ?? '?'}` : `${signal} ended it`),
    );
  });
  await once(child, 'spawn');
  const kill = (signal: NodeJS.Signals) => signalGroup(child.pid, signal);
  const cancelAtExit = atExit(() => kill('SIGKILL'));
  const waitForExit = (ms: number) =>
    new Promise<void>((resolve) => {
      const cancel = clock.schedule(ms, resolve);
      void exited.then(() => {
        cancel();
        resolve();
      });
    });
  return {
    input: child.stdin,
    output: child.stdout,
    exited,
    async end(patienceMs) {
      if (patienceMs > 0) await waitForExit(patienceMs);
      kill('SIGTERM');
      await waitForExit(TERM_MS);
      kill('SIGKILL');
      cancelAtExit();
      return exited;
    },
  };
}

const TERM_MS = 250;

/** Signals a process that leads a session of its own, and all that it started; none where they have ended. */
export function signalGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(-pid, signal);
  } catch {
    // All of its processes have ended.
  }
}
