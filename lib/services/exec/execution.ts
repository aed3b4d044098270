/** A command that runs for a caller: its outputs, its end, and what may end it early. */
import type { Writable } from 'node:stream';
import type { ExecResult } from '../../status/types.js';
import { GroupEnder, type ProcessEnd } from '../../system/processes/children.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { deferred } from '../../util/concurrency.js';
import { OutputSender } from './command-streams.js';
import type { TerminalSize } from './exec-messages.js';
import type { RunningCommand } from './running-command.js';

/** Limit on it once the caller has disconnected: the caller must not choose how long the command outlives it. */
const MAX_KILL_AFTER_MS = 30_000;

/** Time to KILL when this process shuts down, and the time after which it stops waiting. */
const KILL_AT_STOP_MS = 250;
const GIVE_UP_AT_STOP_MS = 300;

/** Outputs that a process outside the group keeps open are closed after this time without waiting for the caller. */
const OUTPUT_GRACE_MS = 500;

/** More than a pipe buffers: later bytes were written after the KILL. */
const MAX_LATE_BYTES = 2 ** 21;

/** What a caller may ask of its command at any time. */
export interface Controls {
  /** Signals the whole process group. */
  signal(name: NodeJS.Signals): void;
  /** Resizes the terminal; no effect without one. */
  resize(size: TerminalSize): void;
  /** Closes an output that the caller no longer reads: writing raises SIGPIPE; a terminal, with one output, is hung up. */
  closeOutput(fd: 1 | 2): void;
}

/** What a caller asks before its command has started: the last of each kind, so that it is bounded. */
export class EarlyRequests implements Controls {
  readonly #asked = new Map<string, (of: Controls) => void>();
  size: TerminalSize | null = null;

  signal(name: NodeJS.Signals): void {
    this.#asked.set(name, (of) => of.signal(name));
  }

  resize(size: TerminalSize): void {
    this.size = size;
    this.#asked.set('size', (of) => of.resize(size));
  }

  closeOutput(fd: 1 | 2): void {
    this.#asked.set(`output ${fd}`, (of) => of.closeOutput(fd));
  }

  askOf(command: Controls): void {
    for (const ask of this.#asked.values()) ask(command);
  }
}

export interface ExecutionOptions {
  readonly command: RunningCommand;
  readonly stream: Writable;
  readonly clock: Clock;
  /** Null: none. */
  readonly timeoutMs: number | null;
  readonly killAfterMs: number;
  /** Called with all output bytes just before they are sent; or null. */
  readonly onOutput: ((bytes: Buffer) => void) | null;
  /** Called once, when the command and both its outputs have ended, even if the caller has disconnected. */
  readonly onEnd: (result: ExecResult) => void;
  /** Called once, after `onEnd`, when none of its processes is watched any longer. */
  readonly onOver: () => void;
}

export class Execution implements Controls {
  readonly #options: ExecutionOptions;
  readonly #startedAtMs: number;
  readonly #ender: GroupEnder;
  readonly #outputs: OutputSender[] = [];
  readonly #over = deferred();
  readonly #cancelTimeout: CancelTimer | null;
  #cancelGrace: CancelTimer | null = null;
  #openOutputs = 0;
  /** `ended` once `onEnd` was called, `over` once `onOver` was. */
  #state: 'running' | 'ended' | 'over' = 'running';
  #end: ProcessEnd | null = null;
  #isTimedOut = false;
  #hasCallerGone = false;

  constructor(options: ExecutionOptions) {
    this.#options = options;
    const { command, clock, timeoutMs } = options;
    this.#startedAtMs = clock.now();
    // Subscribe before the ender does: it may find the whole group gone in the same turn.
    void command.ended.then((end) => {
      this.#end = end;
      this.#check();
    });
    this.#ender = new GroupEnder(command, clock, () => this.#groupGone());
    this.#cancelTimeout = timeoutMs === null ? null : clock.schedule(timeoutMs, () => this.#timeOut());
    this.#openOutputs = command.stderr === null ? 1 : 2;
    const onEnd = (): void => {
      this.#openOutputs -= 1;
      this.#check();
    };
    const shared = { stream: options.stream, onBytes: options.onOutput, onEnd };
    this.#outputs.push(new OutputSender({ source: command.stdout, fd: 1, ...shared }));
    if (command.stderr !== null) this.#outputs.push(new OutputSender({ source: command.stderr, fd: 2, ...shared }));
  }

  get pid(): number {
    return this.#options.command.pid;
  }

  /** Output bytes sent so far. */
  get sentBytes(): number {
    return this.#outputs.reduce((sum, output) => sum + output.sentBytes, 0);
  }

  /** The command got input: its answer must not wait. */
  hurry(): void {
    for (const output of this.#outputs) output.hurry();
  }

  signal(name: NodeJS.Signals): void {
    this.#options.command.signal(name);
  }

  resize(size: TerminalSize): void {
    this.#options.command.resize(size);
  }

  closeOutput(fd: 1 | 2): void {
    this.#outputs[fd - 1]?.close();
  }

  /** The caller has disconnected: ends the whole process group. */
  vanish(): void {
    if (this.#state !== 'running') return;
    this.#hasCallerGone = true;
    this.#ender.end(['SIGHUP', 'SIGTERM'], Math.min(this.#options.killAfterMs, MAX_KILL_AFTER_MS));
  }

  /** Ends the command soon; resolves when it is over, or will not end. */
  async stop(): Promise<void> {
    if (this.#state === 'over') return;
    this.#ender.end(['SIGTERM'], KILL_AT_STOP_MS);
    const cancel = this.#options.clock.schedule(GIVE_UP_AT_STOP_MS, () => {
      this.#finish();
      this.#settle();
    });
    await this.#over.promise;
    cancel();
  }

  /** Ends the command with TERM, then KILL after this time, by default the one in its request. */
  terminate(killAfterMs = this.#options.killAfterMs): void {
    if (this.#state === 'running') this.#ender.end(['SIGTERM'], killAfterMs);
  }

  #timeOut(): void {
    if (this.#state === 'running') this.#isTimedOut = true;
    this.terminate();
  }

  #groupGone(): void {
    if (this.#hasCallerGone) this.#finish();
    if (this.#state === 'running') this.#waitForOutputs(this.sentBytes + MAX_LATE_BYTES);
    else this.#settle();
  }

  #waitForOutputs(mostBytes: number): void {
    for (const output of this.#outputs) output.wasHeldUp();
    this.#cancelGrace = this.#options.clock.schedule(OUTPUT_GRACE_MS, () => {
      // All that the group wrote has been read, unless it had to wait for the caller.
      const isWaiting = this.#outputs.some((output) => output.wasHeldUp());
      if (isWaiting && this.sentBytes <= mostBytes) this.#waitForOutputs(mostBytes);
      else this.#finish();
    });
  }

  /** As with ssh, a process that holds an output open keeps the call open. */
  #check(): void {
    if (this.#end !== null && this.#openOutputs === 0) this.#finish();
  }

  #finish(): void {
    if (this.#state !== 'running') return;
    this.#state = 'ended';
    this.#cancelTimeout?.();
    this.#cancelGrace?.();
    for (const output of this.#outputs) output.end();
    const { clock, onEnd } = this.#options;
    const { status, signal, usage } = this.#end ?? { status: null, signal: 'SIGKILL', usage: null };
    onEnd({
      status,
      signal,
      timedOut: this.#isTimedOut,
      durationMs: clock.now() - this.#startedAtMs,
      usage,
      error: null,
    });
    // Background processes left after an orderly end keep running; those that were told to end are still watched.
    if (!this.#ender.isEnding) this.#settle();
    else this.#ender.end([], MAX_KILL_AFTER_MS);
  }

  #settle(): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    // Not before its group is gone: what is left of it would take a part of the input for the whole.
    this.#options.command.release();
    this.#options.onOver();
    this.#over.resolve();
  }
}
