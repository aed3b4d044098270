/** Joins a process and a stream: bytes, half-close, back-pressure, exit status, and death with the stream. */
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import type { VproxyError } from '../errors.js';
import type { SessionStream } from '../session/session-stream.js';
import type { StreamSink } from '../session/stream-sink.js';
import type { CancelTimer, Clock } from '../util/clock.js';
import { deferred } from '../util/deferred.js';
import { LocalWriter } from './local-writer.js';

/** From SIGTERM to SIGKILL for a process whose stream is gone. */
const KILL_AFTER_MS = 5000;

/** The same where this process is about to end. */
const KILL_AT_STOP_MS = 400;

/** A process that has closed its output gets so long to exit before the end is passed on without its status. */
const EXIT_GRACE_MS = 200;

export interface ChildSinkOptions {
  readonly clock: Clock;
  /** Puts what ended into a message for people. */
  readonly describe: (ending: string) => string;
  /** Process and stream are both gone; called once. */
  readonly onDone: (reason: VproxyError | null) => void;
}

/** The local end of a stream that is a process. */
export class ChildSink implements StreamSink {
  readonly #stream: SessionStream;
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #options: ChildSinkOptions;
  readonly #writer: LocalWriter;
  readonly #gone = deferred();
  #endReason: VproxyError | null = null;
  #isStreamOver = false;
  #isGone = false;
  #isDone = false;
  #cancelTimer: CancelTimer | null = null;
  /** Resets the stream; set when the process failed and its last output still waits. */
  #failLater: (() => void) | null = null;

  constructor(stream: SessionStream, child: ChildProcessWithoutNullStreams, options: ChildSinkOptions) {
    this.#stream = stream;
    this.#child = child;
    this.#options = options;
    const { stdin, stdout } = child;
    this.#writer = new LocalWriter(stdin, (bytes) => stream.release(bytes));
    // Not `data`: Node makes the output of a process that has exited flow, paused or not.
    stdout.on('readable', () => this.#pump());
    stdout.once('end', () => {
      this.#cancelTimer ??= options.clock.schedule(EXIT_GRACE_MS, () => stream.finish());
    });
    // A process need not read; what comes for it then is dropped.
    stdin.on('error', () => undefined);
    stdout.on('error', () => undefined);
    child.once('error', () => this.#closed(null, null));
    child.once('close', (status, signal) => this.#closed(status, signal));
  }

  /** Kills the process soon; resolves when it is gone. */
  async stop(): Promise<void> {
    if (this.#isGone) return;
    this.#kill(KILL_AT_STOP_MS);
    await this.#gone.promise;
  }

  handleAccept(): void {
    // This side never opens one.
  }

  handleData(bytes: Buffer): boolean {
    return this.#writer.write(bytes);
  }

  handleFin(): void {
    this.#writer.end();
  }

  /** Nobody reads what the process writes: it learns that as from a closed pipe. */
  handleStop(): void {
    this.#child.stdout.destroy();
  }

  handleSent(): void {
    if (this.#failLater !== null) this.#failLater();
    else this.#pump();
  }

  handleEnd(reason: VproxyError | null): void {
    this.#isStreamOver = true;
    this.#endReason = reason;
    if (!this.#isGone) this.#kill(KILL_AFTER_MS);
    this.#finishIfDone();
  }

  /** Sends what the process has written, as far as the stream takes it; one that is over takes everything. */
  #pump(): void {
    const { stdout } = this.#child;
    while (!this.#stream.isWaiting) {
      const chunk = stdout.read() as Buffer | null;
      if (chunk === null) return;
      this.#stream.send(chunk, 0, chunk.length, false);
    }
  }

  /** The process has exited and nobody holds its output any more: all of it was read. */
  #closed(status: number | null, signal: NodeJS.Signals | null): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#cancelTimer?.();
    const stream = this.#stream;
    if (status === 0) {
      // Asked for before the end, so that the peer's socket is not cut off from what it was sent.
      stream.stop('cancelled', this.#options.describe('has ended'));
      stream.finish();
    } else {
      const ending = signal === null ? `ended with status ${status ?? 'unknown'}` : `was ended by ${signal}`;
      const fail = (): void => stream.reset('local-error', this.#options.describe(ending));
      if (stream.isWaiting) this.#failLater = fail;
      else fail();
    }
    this.#gone.resolve();
    this.#finishIfDone();
  }

  #kill(killAfterMs: number): void {
    this.#cancelTimer?.();
    this.#signal('SIGTERM');
    // Output that nobody reads any more must not keep it from being seen as gone.
    this.#child.stdin.destroy();
    this.#pump();
    this.#cancelTimer = this.#options.clock.schedule(killAfterMs, () => {
      this.#signal('SIGKILL');
      this.#child.stdout.destroy();
      this.#child.stderr.destroy();
    });
  }

  #signal(signal: NodeJS.Signals): void {
    const { pid } = this.#child;
    if (pid === undefined || this.#isGone) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // The whole group is gone already.
    }
  }

  #finishIfDone(): void {
    if (!this.#isGone || !this.#isStreamOver || this.#isDone) return;
    this.#isDone = true;
    this.#options.onDone(this.#endReason);
  }
}
