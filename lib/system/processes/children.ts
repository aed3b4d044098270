/** Child processes, each the leader of its own process group: started, signalled and ended as a group. */
import { type ChildProcess, type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { systemCode } from '../../errors.js';
import { type CancelTimer, type Clock, settledWithin } from '../../util/clock.js';
import { deferred, LoopTurns } from '../../util/concurrency.js';

/** How a process ended. */
export interface ProcessEnd {
  readonly status: number | null;
  /** `SIGTERM`, or `SIG35` for one without a name. */
  readonly signal: string | null;
  /** What it used, with those of its descendants that were waited for; null if Node started it, which does not tell. */
  readonly usage: ProcessUsage | null;
}

/** What a process used. */
export interface ProcessUsage {
  /** Time of processors, in milliseconds. */
  readonly cpuMs: number;
  /** The most memory that one of them had resident, in bytes; null if this process had more, which the system counts in. */
  readonly peakBytes: number | null;
}

export interface StartedProcess {
  readonly pid: number;
  /** Resolves when it has exited; never rejects. */
  readonly ended: Promise<ProcessEnd>;
  /** With the streams of what is `pipe`; null if Node did not start it. */
  readonly child: ChildProcess | null;
}

/** Every start of a process goes through these turns: it may take the event loop a millisecond or more. */
export const startTurns = new LoopTurns();

/** Watches a started child, and names the signal without a name that ended it; `real-time-signals.ts` sets it. */
export const signalWatch: { begin: (pid: number) => () => string | null } = { begin: () => () => null };

/** A running child of Node. */
export function followChild(child: ChildProcess): StartedProcess {
  const pid = child.pid as number;
  child.on('error', () => undefined);
  const realTimeSignal = signalWatch.begin(pid);
  const ended = new Promise<ProcessEnd>((resolve) => {
    child.once('exit', (code, name) => {
      const unnamed = realTimeSignal();
      const signal = name ?? unnamed;
      resolve({ status: signal === null ? code : null, signal, usage: null });
    });
  });
  return { pid, ended, child };
}

/** Returns the running child. Rejects with the system error if it could not be started. */
export async function spawned<C extends ChildProcess>(child: C): Promise<C> {
  if (child.pid === undefined) throw ((await once(child, 'error')) as [Error])[0];
  // Node keeps these as long as the child, and a caller may choose up to a megabyte of them.
  child.spawnargs.length = 0;
  return child;
}

/** The process group of a process that leads one. */
export class ProcessGroup {
  readonly pid: number;
  /** Resolves when the leader has exited; never rejects. Other processes of its group may still run. */
  readonly ended: Promise<ProcessEnd>;
  #signalGroup = signalGroup;
  /** Guards against signalling a group number that was reused. */
  #isGone = false;

  constructor({ pid, ended }: Pick<StartedProcess, 'pid' | 'ended'>) {
    this.pid = pid;
    this.ended = ended.then((end) => {
      this.#signalGroup = signalRest;
      this.#isGone = !signalRest(pid, 0);
      return end;
    });
  }

  /** Signals the whole group; does nothing once all of it has exited. */
  signal(name: NodeJS.Signals): void {
    if (!this.#isGone) this.#isGone = !this.#signalGroup(this.pid, name);
  }
}

/** Signals every process of a group; 0 only looks. False if none is left, not even a zombie; one that this user may not signal is left. */
export function signalGroup(groupId: number, signal: NodeJS.Signals | 0): boolean {
  try {
    process.kill(-groupId, signal);
    return true;
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}

/**
 * Likewise, once the leader was waited for: no process gets its number before the whole group has exited, so one that has it shows
 * that the group is gone, and its number another one's.
 */
function signalRest(groupId: number, signal: NodeJS.Signals | 0): boolean {
  return !signalGroup(-groupId, 0) && signalGroup(groupId, signal);
}

/** How often to check whether a group whose leader has exited is gone. */
const LOOK_MS = 50;

type GroupState = 'running' | 'ending' | 'killed' | 'gone';

/** Ends a whole process group: signals it, and kills it after a while. */
export class GroupEnder {
  readonly #group: Pick<ProcessGroup, 'pid' | 'ended' | 'signal'>;
  readonly #clock: Clock;
  readonly #onGone: () => void;
  #state: GroupState = 'running';
  #hasFirstEnded = false;
  #killAtMs = Number.POSITIVE_INFINITY;
  #cancelKill: CancelTimer | null = null;
  #cancelLook: CancelTimer | null = null;

  /** Calls `onGone` once: after `end`, when the leader has exited and the rest is gone or was killed. */
  constructor(group: Pick<ProcessGroup, 'pid' | 'ended' | 'signal'>, clock: Clock, onGone: () => void) {
    this.#group = group;
    this.#clock = clock;
    this.#onGone = onGone;
    void group.ended.then(() => {
      this.#hasFirstEnded = true;
      if (this.#state !== 'running') this.#look();
    });
  }

  /** Whether it was asked to end, and is not gone yet. */
  get isEnding(): boolean {
    return this.#state === 'ending' || this.#state === 'killed';
  }

  /** Sends these signals now, and KILL after `killAfterMs`, or earlier if an earlier call said so. */
  end(signals: readonly NodeJS.Signals[], killAfterMs: number): void {
    if (this.#state === 'gone') return;
    for (const name of signals) this.#group.signal(name);
    // A stopped process receives signals other than KILL only when it continues.
    this.#group.signal('SIGCONT');
    const killAtMs = this.#clock.now() + killAfterMs;
    if (this.#state === 'killed' || killAtMs >= this.#killAtMs) return;
    this.#state = 'ending';
    this.#killAtMs = killAtMs;
    this.#cancelKill?.();
    this.#cancelKill = this.#clock.schedule(killAfterMs, () => {
      this.#state = 'killed';
      this.#group.signal('SIGKILL');
      this.#look();
    });
    this.#look();
  }

  /** Polls, because nothing reports it: only the leader is a child of this process. */
  #look(): void {
    this.#cancelLook?.();
    this.#cancelLook = null;
    if (!this.#hasFirstEnded || this.#state === 'gone') return;
    if (this.#state === 'ending' && signalRest(this.#group.pid, 0)) {
      this.#cancelLook = this.#clock.schedule(LOOK_MS, () => this.#look());
      return;
    }
    this.#state = 'gone';
    this.#cancelKill?.();
    this.#onGone();
  }
}

/** A command that runs as long as it is needed. The caller calls `end`. */
export interface Child {
  readonly input: Writable;
  readonly output: Readable;
  /** How it ended, human-readable: `exited with status 1`. */
  readonly exited: Promise<string>;
  /**
   * Waits `patienceMs` for the command to exit by itself, then ends it and everything it started: with SIGTERM, and SIGKILL
   * 250 ms later. Resolves with how it ended.
   */
  end(patienceMs: number): Promise<string>;
}

const TERM_MS = 250;

/**
 * Starts `/bin/sh -c command` without a terminal, sharing this process's standard error. It is killed when this process exits.
 * Rejects with a system error.
 */
export async function startChild(command: string, clock: Clock): Promise<Child> {
  const child = await startTurns.queue(() =>
    spawned<ChildProcessByStdio<Writable, Readable, null>>(
      spawn('/bin/sh', ['-c', command], { stdio: ['pipe', 'pipe', 'inherit'], detached: true }),
    ),
  );
  const group = new ProcessGroup(followChild(child));
  const gone = deferred();
  const ender = new GroupEnder(group, clock, () => gone.resolve());
  const cancelAtExit = atExit(() => group.signal('SIGKILL'));
  const exited = group.ended.then(({ status, signal }) =>
    signal === null ? `exited with status ${status ?? '?'}` : `killed by ${signal}`,
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
 * Calls the synchronous `undo` if the process exits by itself (not killed by a signal) before the returned function cancels it.
 */
export function atExit(undo: () => void): () => void {
  if (undoings.size === 0) process.once('exit', undoAll);
  undoings.add(undo);
  return () => {
    undoings.delete(undo);
    if (undoings.size === 0) process.off('exit', undoAll);
  };
}
