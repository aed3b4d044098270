/** The caller's end of the input of a job, over each of its streams. Loads nothing of the runner. */
import { type Duplex, finished, type Writable } from 'node:stream';
import { encodeRecord } from '../../../util/bytes/records.js';
import { EXEC_KIND, encodeResize, type TerminalSize } from '../exec-messages.js';
import { StdinSender } from '../stdin-sender.js';
import type { JobPiece } from './job-messages.js';

/** Options for writing to a job. */
export interface WriterOptions {
  /** Takes the input over from another caller. Default: `input-taken` if there is one. */
  readonly steal?: boolean | undefined;
  /** The size of the job's terminal. Default: as it is. */
  readonly size?: TerminalSize | undefined;
  /** Rejects when the job is lost after something was written to it, which may be lost, too. Default: continues without that. */
  readonly isWhole?: boolean | undefined;
  /** Called each time the job takes input: at first, and after it was lost. */
  readonly onJoined?: (() => void) | undefined;
}

/** A job that this program writes to. */
export interface JoinedJob {
  /** What the job writes; the last piece is its end, unless `leave` was called. */
  readonly output: AsyncGenerator<JobPiece, void>;
  /**
   * Its input, buffered until the job reads it; `end()` ends it for good. Never fails. What was sent when the job was lost may have
   * reached it or not, and is not sent again.
   */
  readonly stdin: Writable;
  /** Signals the process group of the job: `SIGINT`. No effect while it is lost. */
  signal(name: string): void;
  /** Resizes its terminal. Throws `bad-argument` for sizes other than 1 to 65,535. */
  resize(size: TerminalSize): void;
  /**
   * Leaves the job and its input as they are; `output` ends once the job has what was written to `stdin`, and rejects if that may
   * be lost.
   */
  leave(): void;
}

export class JobWriter implements JoinedJob {
  readonly output: AsyncGenerator<JobPiece, void>;
  readonly stdin = new StdinSender(null, 0);
  readonly #options: WriterOptions;
  #size: TerminalSize | undefined;
  #stream: Duplex | null = null;
  #hasJoined = false;
  /** Whether it takes the input over: only at first, since another caller may have it by right when this one is back. */
  #isStealing: boolean | undefined;
  #isLeaving = false;
  #hasLeft = false;
  /** Whether the last size waits for room. */
  #isSizeDue = false;

  constructor(options: WriterOptions, read: (writer: JobWriter) => AsyncGenerator<JobPiece, void>) {
    this.#options = options;
    this.#size = options.size;
    this.#isStealing = options.steal;
    this.output = read(this);
  }

  /** The fields of an ATTACH. */
  get request() {
    return { input: true, steal: this.#isStealing, ...this.#size };
  }

  /** Whether its user has left it, and all that was written before has been sent. */
  get hasLeft(): boolean {
    return this.#hasLeft;
  }

  /** Whether something that was written may be lost with its last stream, which its user, who is leaving, will not notice. */
  get isUnsure(): boolean {
    return (this.#isLeaving || this.#options.isWhole === true) && this.stdin.hasSent;
  }

  /** Writes to this stream once it has credit; null: the job is lost, or over. */
  begin(stream: Duplex | null): void {
    this.#stream = stream;
    this.#hasJoined = false;
    // ATTACH has it.
    this.#isSizeDue = false;
    stream?.on('drain', () => {
      if (this.#isSizeDue && this.#size !== undefined && stream === this.#stream) this.resize(this.#size);
    });
    this.stdin.move(stream);
    if (this.#hasLeft) stream?.end();
  }

  grant(bytes: number): void {
    if (!this.#hasJoined) this.#options.onJoined?.();
    this.#hasJoined = true;
    this.#isStealing = false;
    this.stdin.grant(bytes);
  }

  signal(name: string): void {
    this.#write(encodeRecord(EXEC_KIND.SIGNAL, name));
  }

  resize(size: TerminalSize): void {
    const record = encodeResize(size);
    this.#size = size;
    this.#isSizeDue = this.#stream?.writableNeedDrain === true;
    if (!this.#isSizeDue) this.#write(record);
  }

  leave(): void {
    const { stdin } = this;
    this.#isLeaving = true;
    const end = (): void => {
      this.#hasLeft = true;
      this.#stream?.end();
    };
    if (stdin.writableEnded) finished(stdin, end);
    else stdin.write('', end);
  }

  #write(record: Buffer): void {
    if (this.#stream?.writable === true) this.#stream.write(record);
  }
}
