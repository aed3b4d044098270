/** Child processes, each of which leads a process group of its own: they are started, signalled and ended as a group. */
import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { systemCode } from '../../errors.js';
import { type CancelTimer, type Clock, settledWithin } from '../../util/clock.js';
import { deferred } from '../../util/concurrency.js';

/** How a process ended. */
export interface ProcessEnd {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A child that runs. Rejects with the error of the system where it could not be started. */
export async function spawned<C extends ChildProcess>(child: C): Promise<C> {
  if (child.pid === undefined) throw ((await once(child, 'error')) as [Error])[0];
  // Node keeps them for as long as the child is known, and a caller may choose them: up to a megabyte.
  child.spawnargs.length = 0;
  return child;
}

/** The group that a child leads. It was spawned with `detached`, and is running. */
export class ProcessGroup {
  readonly pid: number;
  /** Resolved when the child has ended; never rejected. Others of its group may be running still. */
  readonly ended: Promise<ProcessEnd>;
  /** The number of a group that has gone may become another one's. */
  #isGone = false;

  constructor(child: ChildProcess) {
    this.pid = child.pid as number;
    child.on('error', () => undefined);
    this.ended = new Promise((resolve) => {
      child.once('exit', (status, signal) => {
        this.#isGone = !isGroupAlive(this.pid);
        resolve({ status, signal });
      });
    });
  }

  /** Signals the whole group; does nothing once all of it has gone. */
  signal(name: NodeJS.Signals): void {
    if (!this.#isGone) this.#isGone = !signalGroup(this.pid, name);
  }
}

/** Signals every process of a group. False where none is left; one that this user may not signal is. */
export function signalGroup(groupId: number, name: NodeJS.Signals): boolean {
  return killGroup(groupId, name);
}

/** Whether a group has a process, also one that has ended and that nobody has waited for. */
function isGroupAlive(groupId: number): boolean {
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

/** How often it is looked whether a group whose first process has ended has gone. */
const LOOK_MS = 50;

/** What a {@link GroupEnder} has to do with a group. */
type GroupState = 'running' | 'told' | 'killed' | 'gone';

/** Ends a whole process group: told to first, killed after a while. */
export class GroupEnder {
  readonly #group: Pick<ProcessGroup, 'pid' | 'ended' | 'signal'>;
  readonly #clock: Clock;
  readonly #onGone: () => void;
  #state: GroupState = 'running';
  #hasFirstEnded = false;
  #killAtMs = Number.POSITIVE_INFINITY;
  #cancelKill: CancelTimer | null = null;
  #cancelLook: CancelTimer | null = null;

  /** `onGone` is called once: it was told to end, its first process has ended, and the rest has gone or was killed. */
  constructor(group: Pick<ProcessGroup, 'pid' | 'ended' | 'signal'>, clock: Clock, onGone: () => void) {
    this.#group = group;
    this.#clock = clock;
    this.#onGone = onGone;
    void group.ended.then(() => {
      this.#hasFirstEnded = true;
      if (this.#state !== 'running') this.#look();
    });
  }

  /** Whether it was told to end, and is not gone. */
  get isEnding(): boolean {
    return this.#state === 'told' || this.#state === 'killed';
  }

  /** Sends these signals now, and KILL after `killAfterMs`, or sooner where that was said before. */
  end(signals: readonly NodeJS.Signals[], killAfterMs: number): void {
    if (this.#state === 'gone') return;
    for (const name of signals) this.#group.signal(name);
    // A stopped process gets a signal when it goes on, except for KILL.
    this.#group.signal('SIGCONT');
    const killAtMs = this.#clock.now() + killAfterMs;
    if (this.#state === 'killed' || killAtMs >= this.#killAtMs) return;
    this.#state = 'told';
    this.#killAtMs = killAtMs;
    this.#cancelKill?.();
    this.#cancelKill = this.#clock.schedule(killAfterMs, () => {
      this.#state = 'killed';
      this.#group.signal('SIGKILL');
      this.#look();
    });
    this.#look();
  }

  /** Looks again and again, as nothing tells it; others than the first process are not this one's children. */
  #look(): void {
    this.#cancelLook?.();
    this.#cancelLook = null;
    if (!this.#hasFirstEnded || this.#state === 'gone') return;
    if (this.#state === 'told' && isGroupAlive(this.#group.pid)) {
      this.#cancelLook = this.#clock.schedule(LOOK_MS, () => this.#look());
      return;
    }
    this.#state = 'gone';
    this.#cancelKill?.();
    this.#onGone();
  }
}

/** A command that runs for as long as somebody needs it. The caller calls `end`. */
export interface Child {
  readonly input: Writable;
  readonly output: Readable;
  /** How it ended, for people: `it ended with status 1`. */
  readonly exited: Promise<string>;
  /**
   * Waits `patienceMs` for the command to end by itself, then has it and all that it started ended: by SIGTERM, and by
   * SIGKILL 250 ms later. Resolves when it has ended, with how.
   */
  end(patienceMs: number): Promise<string>;
}

const TERM_MS = 250;

/**
 * Starts `/bin/sh -c command`, which has no terminal. Its standard error is this process's own. It is killed when this
 * process exits. Rejects with an error of the system.
 */
export async function startChild(command: string, clock: Clock): Promise<Child> {
  const child: ChildProcessByStdio<Writable, Readable, null> = spawn('/bin/sh', ['-c', command], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  });
  await spawned(child);
  const group = new ProcessGroup(child);
  const gone = deferred();
  const ender = new GroupEnder(group, clock, () => gone.resolve());
  const cancelAtExit = atExit(() => group.signal('SIGKILL'));
  const exited = group.ended.then(({ status, signal }) =>
    signal === null ? `it ended with status ${status ?? '?'}` : `${signal} ended it`,
  );
  return {
    input: child.stdin,
    output: child.stdout,
    exited,
    async end(patienceMs) {
      if (patienceMs > 0) await settledWithin(clock, patienceMs, exited);
      ender.end(['SIGTERM'], TERM_MS);
      await gone.promise;
      cancelAtExit();
      return exited;
    },
  };
}

const undoings = new Set<() => void>();

const undoAll = () => {
  for (const undo of undoings) undo();
};

/**
 * Has `undo` called when the process exits by itself (not when a signal kills it) although nobody has cleaned up. It must
 * be synchronous. The function returned cancels that.
 */
export function atExit(undo: () => void): () => void {
  if (undoings.size === 0) process.once('exit', undoAll);
  undoings.add(undo);
  return () => {
    undoings.delete(undo);
    if (undoings.size === 0) process.off('exit', undoAll);
  };
}
