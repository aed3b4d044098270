/** A command that runs for a caller: its outputs, its end, and everything that ends it before. */
import type { Writable } from 'node:stream';
import { GroupEnder, type ProcessEnd } from '../system/processes/children.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { deferred } from '../util/concurrency.js';
import { OutputSender } from './command-streams.js';
import type { ExecResult } from './exec-messages.js';
import type { RunningCommand } from './running-command.js';

/** From TERM to KILL, where the caller says nothing. */
export const DEFAULT_KILL_AFTER_MS = 5000;

/** The same, at most, where nobody waits for the command any more: it would outlast its stream for as long as its caller liked. */
const MAX_KILL_AFTER_MS = 30_000;

/** The same where this process is about to end, and the time after which it waits no longer. */
const KILL_AT_STOP_MS = 250;
const GIVE_UP_AT_STOP_MS = 300;

/** Outputs that stay open after a KILL, held by a process that left the group, are given up when nothing comes for this time. */
const OUTPUT_GRACE_MS = 500;

/** More than a pipe can hold of what was written before. */
const MAX_LATE_BYTES = 2 ** 21;

export interface ExecutionOptions {
  readonly command: RunningCommand;
  readonly stream: Writable;
  readonly clock: Clock;
  /** Null: none. */
  readonly timeoutMs: number | null;
  readonly killAfterMs: number;
  /** Told all bytes of the outputs that are sent, before they are; null: nobody is. */
  readonly onOutput: ((bytes: Buffer) => void) | null;
  /** The command has ended, and both outputs with it; called once, also when the caller has gone. */
  readonly onEnd: (result: ExecResult) => void;
  /** No process of it is watched any more; called once, after `onEnd`. */
  readonly onOver: () => void;
}

export class Execution {
  readonly #options: ExecutionOptions;
  readonly #startedAtMs: number;
  readonly #ender: GroupEnder;
  readonly #outputs: OutputSender[] = [];
  readonly #over = deferred();
  readonly #cancelTimeout: CancelTimer | null;
  #cancelGrace: CancelTimer | null = null;
  #openOutputs = 0;
  /** `running`, until its outcome is told: `ended`; `over` when no process of it is watched any more. */
  #state: 'running' | 'ended' | 'over' = 'running';
  #end: ProcessEnd | null = null;
  #isTimedOut = false;
  #hasCallerGone = false;

  constructor(options: ExecutionOptions) {
    this.#options = options;
    const { command, clock, timeoutMs } = options;
    this.#startedAtMs = clock.now();
    // Before the ender, which may find that all has gone in the same turn.
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

  /** Bytes of its outputs so far. */
  get sentBytes(): number {
    return this.#outputs.reduce((sum, output) => sum + output.sentBytes, 0);
  }

  /** Nobody reads an output: a command that writes to it gets PIPE; one in a terminal, which has one output, is hung up. */
  closeOutput(fd: 1 | 2): void {
    this.#outputs[fd - 1]?.close();
  }

  /** Nobody waits for it any more: the whole group goes. */
  vanish(): void {
    if (this.#state !== 'running') return;
    this.#hasCallerGone = true;
    this.#ender.end(['SIGHUP', 'SIGTERM'], Math.min(this.#options.killAfterMs, MAX_KILL_AFTER_MS));
  }

  /** Ends it soon; resolves when it is over, or would not end. */
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

  #timeOut(): void {
    if (this.#state !== 'running') return;
    this.#isTimedOut = true;
    this.#ender.end(['SIGTERM'], this.#options.killAfterMs);
  }

  #groupGone(): void {
    if (this.#hasCallerGone) this.#finish();
    if (this.#state === 'running') this.#waitForOutputs(this.sentBytes + MAX_LATE_BYTES);
    else this.#settle();
  }

  #waitForOutputs(mostBytes: number): void {
    const { sentBytes } = this;
    this.#cancelGrace = this.#options.clock.schedule(OUTPUT_GRACE_MS, () => {
      const isFlowing = this.sentBytes !== sentBytes || this.#outputs.some(({ isHeldUp }) => isHeldUp);
      if (isFlowing && this.sentBytes <= mostBytes) this.#waitForOutputs(mostBytes);
      else this.#finish();
    });
  }

  /** As with ssh: what holds an output open keeps the call open. */
  #check(): void {
    if (this.#end !== null && this.#openOutputs === 0) this.#finish();
  }

  #finish(): void {
    if (this.#state !== 'running') return;
    this.#state = 'ended';
    this.#cancelTimeout?.();
    this.#cancelGrace?.();
    for (const output of this.#outputs) output.end();
    const { command, clock, onEnd } = this.#options;
    command.release();
    const { status, signal } = this.#end ?? { status: null, signal: 'SIGKILL' };
    onEnd({ status, signal, timedOut: this.#isTimedOut, durationMs: clock.now() - this.#startedAtMs, error: null });
    // What an orderly end left behind in the background is left alone; what was told to end is still watched.
    if (!this.#ender.isEnding) this.#settle();
    else this.#ender.end([], MAX_KILL_AFTER_MS);
  }

  #settle(): void {
    if (this.#state === 'over') return;
    this.#state = 'over';
    this.#options.onOver();
    this.#over.resolve();
  }
}
