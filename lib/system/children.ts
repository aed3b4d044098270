/** A command that runs for as long as somebody needs it, together with all processes that it starts. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { systemCode } from '../errors.js';
import type { CancelTimer, Clock } from '../util/clock.js';

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
  const kill = (signal: NodeJS.Signals) => signalChildGroup(child.pid, signal);
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
export function signalChildGroup(pid: number | undefined, signal: NodeJS.Signals): void {
  try {
    if (pid !== undefined) process.kill(-pid, signal);
  } catch {
    // All of its processes have ended.
  }
}

// Ends the whole process group of a command: told to first, killed after a while.

/** How often it is looked whether a group whose first process has ended has gone. */
const LOOK_MS = 50;

/** A process that leads a group of its own. */
interface GroupLeader {
  readonly pid: number;
  /** Resolved when the process has ended; never rejected. */
  readonly ended: Promise<unknown>;
  /** Signals the whole group; does nothing once all of it has gone. */
  signal(name: NodeJS.Signals): void;
}

export class GroupEnder {
  readonly #command: GroupLeader;
  readonly #clock: Clock;
  readonly #onGone: () => void;
  #killAtMs = Number.POSITIVE_INFINITY;
  #cancelKill: CancelTimer | null = null;
  #cancelLook: CancelTimer | null = null;
  #hasFirstEnded = false;
  #isOver = false;

  /** `onGone` is called once, when the first process has ended, and the rest has gone or was killed. */
  constructor(command: GroupLeader, clock: Clock, onGone: () => void) {
    this.#command = command;
    this.#clock = clock;
    this.#onGone = onGone;
    void command.ended.then(() => {
      this.#hasFirstEnded = true;
      if (this.isEnding) this.#look();
    });
  }

  /** Whether it was told to end. */
  get isEnding(): boolean {
    return this.#killAtMs !== Number.POSITIVE_INFINITY;
  }

  /** Whether `onGone` was called. */
  get isOver(): boolean {
    return this.#isOver;
  }

  /** Whether it was killed. */
  get wasKilled(): boolean {
    return this.isEnding && this.#cancelKill === null;
  }

  /** Sends these signals now, and KILL after `killAfterMs`, or sooner where that was said before. */
  end(signals: readonly NodeJS.Signals[], killAfterMs: number): void {
    if (this.#isOver) return;
    for (const name of signals) this.#command.signal(name);
    // A stopped process gets a signal when it goes on, except for KILL.
    this.#command.signal('SIGCONT');
    const killAtMs = this.#clock.now() + killAfterMs;
    if (this.wasKilled || killAtMs >= this.#killAtMs) return;
    this.#killAtMs = killAtMs;
    this.#cancelKill?.();
    this.#cancelKill = this.#clock.schedule(killAfterMs, () => {
      this.#cancelKill = null;
      this.#command.signal('SIGKILL');
      this.#look();
    });
    this.#look();
  }

  /** Looks again and again, as nothing tells it; others than the first process are not this one's children. */
  #look(): void {
    this.#cancelLook?.();
    this.#cancelLook = null;
    if (!this.#hasFirstEnded || this.#isOver) return;
    if (!this.wasKilled && isGroupAlive(this.#command.pid)) {
      this.#cancelLook = this.#clock.schedule(LOOK_MS, () => this.#look());
      return;
    }
    this.#isOver = true;
    this.#cancelKill?.();
    this.#cancelKill = null;
    this.#onGone();
  }
}

// Signals for a process group.

/** Signals every process of a group. False where none is left; one that this user may not signal is. */
export function signalGroup(groupId: number, name: NodeJS.Signals): boolean {
  return killGroup(groupId, name);
}

/** Whether a group has a process, also one that has ended and that nobody has waited for. */
export function isGroupAlive(groupId: number): boolean {
  return killGroup(groupId, 0);
}

function killGroup(groupId: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-groupId, signal);
    return true;
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}

// What has to be undone when the process exits although nobody closed a channel.

const undoings = new Set<() => void>();

const runAll = () => {
  for (const undo of undoings) undo();
};

/**
 * Has `undo` called when the process exits by itself (not when a signal kills it). It must be synchronous. The function
 * returned cancels that.
 */
export function atExit(undo: () => void): () => void {
  if (undoings.size === 0) process.once('exit', runAll);
  undoings.add(undo);
  return () => {
    undoings.delete(undo);
    if (undoings.size === 0) process.off('exit', runAll);
  };
}
