/** Joins standard input to that of a job: in raw mode if both are terminals, and as it comes otherwise. */
import type { ControlClient } from '../../lib/control/client/client.js';
import type { AttachRequest } from '../../lib/control/client/client-options.js';
import { badArgument } from '../../lib/errors.js';
import type { JobPiece } from '../../lib/services/exec/jobs/job-messages.js';
import type { JoinedJob } from '../../lib/services/exec/jobs/job-writer.js';
import { escapeText } from '../../lib/util/escape.js';
import { obeysEscapes } from '../ui/color.js';
import { LocalTerminal, TerminalModes } from '../ui/local-terminal.js';
import { isAtTerminal } from './join-terminal.js';

export interface KeyboardOptions {
  /** Whether to take the input over from another caller. */
  readonly steal: boolean;
  /** The command that comes back to the job. */
  readonly back: string;
}

/** Ctrl-\ leaves the job. */
const LEAVE = 0x1c;

/** How long what was typed before may take to arrive, in milliseconds. */
const LEAVE_MS = 500;

export class JobKeyboard {
  /** The output of the job. */
  readonly output: AsyncGenerator<JobPiece, void>;
  readonly #job: JoinedJob;
  readonly #terminal: LocalTerminal | null;
  readonly #modes = new TerminalModes();
  readonly #leaving: AbortController;
  #hasBegun = false;

  private constructor(job: JoinedJob, terminal: LocalTerminal | null, leaving: AbortController) {
    this.output = job.output;
    this.#job = job;
    this.#terminal = terminal;
    this.#leaving = leaving;
    terminal?.onResize((size) => job.resize(size));
  }

  /** Sends nothing before the output is read. Rejects with `bad-argument` if the job takes no input. */
  static async join(
    control: ControlClient,
    id: string,
    request: AttachRequest,
    { steal }: KeyboardOptions,
  ): Promise<JobKeyboard> {
    const { channel } = request;
    const job = (await control.jobs({ channel })).find((one) => one.id === id);
    if (job?.endedAt === null && !job.takesInput) throw badArgument(`job ${escapeText(id, 64)} takes no input`);
    const terminal = job?.terminal === true && isAtTerminal() ? new LocalTerminal() : null;
    const leaving = new AbortController();
    const onJoined = (): void => keyboard.#begin();
    // Who types sees what has arrived; a pipe must not have a hole.
    const own = { isWhole: terminal === null, onJoined, signal: leaving.signal };
    const options = { ...request, steal, size: terminal?.size, ...own };
    const keyboard = new JobKeyboard(await control.joinJob(id, options), terminal, leaving);
    return keyboard;
  }

  /** Whether the job was left before it had all that was typed, for all that is known. */
  get isUnsure(): boolean {
    return this.#leaving.signal.aborted;
  }

  /** Takes the next piece of output, of whose modes this terminal is rid at the end. */
  follow(bytes: Buffer): void {
    if (this.#terminal !== null) this.#modes.follow(bytes.toString('latin1'));
  }

  /** Reads nothing until the job takes input again; Ctrl-C ends this process meanwhile. */
  pause(): void {
    this.#terminal?.stop();
    process.stdin.pause();
  }

  /** Restores the terminal, with its modes unless the job is over, which did so itself. */
  stop(isOver: boolean): void {
    process.stdin.unpipe();
    const isLeft = this.#hasBegun && this.#terminal !== null && !isOver;
    if (isLeft) process.stdout.write(obeysEscapes(process.stdout) ? `${this.#modes.restoring()}\r\n` : '\r\n');
    this.pause();
  }

  #begin(): void {
    const { stdin } = process;
    const isFirst = !this.#hasBegun;
    this.#hasBegun = true;
    if (this.#terminal === null) {
      if (isFirst) stdin.pipe(this.#job.stdin);
      else stdin.resume();
      return;
    }
    this.#terminal.start();
    // It may have changed while the job was lost.
    this.#job.resize(this.#terminal.size);
    if (isFirst) stdin.on('data', (bytes: Buffer) => this.#type(bytes));
    stdin.resume();
  }

  #type(bytes: Buffer): void {
    const at = bytes.indexOf(LEAVE);
    this.#job.stdin.write(at === -1 ? bytes : bytes.subarray(0, at));
    if (at === -1) return;
    this.pause();
    this.#job.leave();
    setTimeout(() => this.#leaving.abort(), LEAVE_MS).unref();
  }
}
