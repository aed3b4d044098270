/** `exec:COMMAND`: a process for each stream, with the stream as its standard input and output. */

import type { Readable, Writable } from 'node:stream';
import type { VproxyError } from '../../errors.js';
import { makeEvent } from '../../events.js';
import type { LocalEnd } from '../../session/local-end.js';
import type { SessionStream } from '../../session/stream.js';
import { GroupEnder, type ProcessEnd, ProcessGroup, startTurns } from '../../system/processes/children.js';
import { loadSystemPipes, openLoadedPipes, type PipedProcess, spawnPiped } from '../../system/processes/pipes.js';
import { type ProcessSpec, startProcess } from '../../system/processes/start-process.js';
import type { CancelTimer, Clock } from '../../util/clock.js';
import { deferred } from '../../util/concurrency.js';
import { describeError, escapeText } from '../../util/escape.js';
import { type EndpointKind, refuseBeyond, type Target, type TargetContext } from '../endpoint-kind.js';
import type { ExecEndpoint } from '../forms/endpoint-forms.js';
import { streamFields } from '../forward-log.js';
import type { InputFilter } from '../input-filter.js';
import { LocalWriter } from '../local-writer.js';

export const execEndpoint: EndpointKind<ExecEndpoint> = {
  createTarget: ({ command }, context) => new ExecTarget(command, context),
};

/** Limit on how much of a stderr line is logged. */
const MAX_LOGGED = 512;

/** Runs `command` in a shell for each stream, in its own process group. */
export class ExecTarget implements Target {
  readonly #command: string;
  readonly #context: TargetContext;
  readonly #shell: string;
  readonly #children = new Set<ChildSink>();
  /** What is left of the group of a process that was told to end; killed after a while. */
  readonly #left = new Set<ChildSink>();

  constructor(command: string, context: TargetContext, shell = '/bin/sh') {
    this.#command = command;
    this.#context = context;
    this.#shell = shell;
  }

  get openCount(): number {
    return this.#children.size;
  }

  /** Loads real pipes if this machine has koffi. */
  async prepare(): Promise<void> {
    await loadSystemPipes();
  }

  serve(stream: SessionStream): void {
    const { clock, maxStreams, name, onClosed, onLeft } = this.#context;
    if (refuseBeyond(stream, this.#children.size, maxStreams)) return;
    const sink = new ChildSink(stream, {
      clock,
      describe: (ending) => `${name} ${ending}`,
      onDone: (reason) => {
        this.#children.delete(sink);
        if (sink.isEnding) this.#left.add(sink);
        onClosed(stream, reason);
        onLeft?.();
      },
      onGone: () => this.#left.delete(sink),
    });
    this.#children.add(sink);
    stream.attach(sink);
    void startTurns.queue(() => {
      if (!stream.isOver) void this.#start(stream, sink);
    });
  }

  async #start(stream: SessionStream, sink: ChildSink): Promise<void> {
    const { log, name } = this.#context;
    const argv = [this.#shell, '-c', this.#command];
    let piped: WholeProcess;
    try {
      // Its own group: processes started by the shell are killed with it.
      const start = (stdio: ProcessSpec['stdio']) => startProcess({ file: this.#shell, argv, stdio });
      piped = (await spawnPiped(openLoadedPipes(3), true, start)) as WholeProcess;
    } catch (error) {
      stream.refuse('connect-failed', `${name}: ${describeError(error)}`);
      return;
    }
    if (stream.isOver) {
      new ProcessGroup(piped).signal('SIGKILL');
      piped.release();
      return;
    }
    sink.begin(piped, this.#context.filters?.(stream.service) ?? null);
    stream.accept();
    log.opened(stream);
    const { stderr } = piped;
    stderr.setEncoding('utf8').on('data', (text: string) => {
      for (const line of text.split('\n')) {
        if (line === '') continue;
        const message = `${name} stderr: ${escapeText(line, MAX_LOGGED)}`;
        log.write(makeEvent('target-stderr', message, log.fields(streamFields(stream))));
      }
    });
    stderr.on('error', () => undefined);
  }

  get obstacles(): string[] {
    const { name } = this.#context;
    const running = [...this.#children, ...this.#left];
    return running.map(({ streamId }) => `stream ${streamId} to ${name}, whose command is still running`);
  }

  endedByPeer(): number[] {
    return [...this.#children].filter(({ isStreamOver }) => !isStreamOver).map(({ streamId }) => streamId);
  }

  cut(): string[] {
    // The others end with their streams.
    const alone = [...this.#children].filter(({ isAlone, isToEnd }) => isAlone && !isToEnd);
    for (const child of alone) child.end();
    return alone.map(({ streamId }) => `the command of stream ${streamId} to ${this.#context.name}`);
  }

  /** Terminates every process, and kills it shortly after. */
  async stop(): Promise<void> {
    await Promise.all([...this.#children, ...this.#left].map((child) => child.stop()));
  }
}

/** A process with an input and both outputs. */
type WholeProcess = PipedProcess & { readonly stdin: Writable; readonly stderr: Readable };

/** From SIGTERM to SIGKILL for a process whose stream has ended. */
const KILL_AFTER_MS = 5000;

/** The same while this process is shutting down. */
const KILL_AT_STOP_MS = 400;

/** After a process closed its output, the time to exit before EOF is passed on without its status. */
const EXIT_GRACE_MS = 200;

/** Calls back once the process has exited and its outputs are closed: like a child's `close` for streams made by Node. */
function whenGone({ ended }: ProcessGroup, process: WholeProcess, callback: (end: ProcessEnd) => void): void {
  const { stdout, stderr } = process;
  const closed = [stdout, stderr].map((output) => new Promise((resolve) => output.once('close', resolve)));
  void Promise.all([ended, ...closed]).then(([end]) => callback(end));
}

interface ChildSinkOptions {
  readonly clock: Clock;
  /** Completes a human-readable message about the end of the process. */
  readonly describe: (ending: string) => string;
  /** Both process and stream have ended; called once. */
  readonly onDone: (reason: VproxyError | null) => void;
  /** The whole group of the process has ended, after it was told to end. */
  readonly onGone: () => void;
}

/** Joins a process to a stream: bytes, half-close, back-pressure, exit status; ends the process with the stream. */
class ChildSink implements LocalEnd {
  readonly #stream: SessionStream;
  readonly #options: ChildSinkOptions;
  /** Null before the process is started. */
  #process: WholeProcess | null = null;
  #writer: LocalWriter | null = null;
  /** What the stream brought before. */
  readonly #early: (() => void)[] = [];
  readonly #gone = deferred();
  #endReason: VproxyError | null = null;
  isStreamOver = false;
  #isGone = false;
  #isDone = false;
  /** Null before the process is started. */
  #ender: GroupEnder | null = null;
  #cancelTimer: CancelTimer | null = null;
  /** When it is killed, by the clock. */
  #killAtMs = Number.POSITIVE_INFINITY;
  /** Resets the stream; set if the process failed while its last output still waits. */
  #failLater: (() => void) | null = null;

  constructor(stream: SessionStream, options: ChildSinkOptions) {
    this.#stream = stream;
    this.#options = options;
  }

  /** Joins the process to the stream, whose bytes pass through the filter. */
  begin(process: WholeProcess, filter: InputFilter | null): void {
    const { clock } = this.#options;
    const stream = this.#stream;
    const { stdin, stdout } = process;
    this.#process = process;
    const group = new ProcessGroup(process);
    this.#ender = new GroupEnder(group, clock, () => {
      stdin.destroy();
      this.#options.onGone();
    });
    whenGone(group, process, (end) => this.#closed(end));
    this.#writer = new LocalWriter(stdin, (bytes) => stream.release(bytes), filter);
    // Not `data`: Node makes the output of an exited process flow, paused or not.
    stdout.on('readable', () => this.#pump());
    stdout.once('end', () => {
      this.#cancelTimer ??= clock.schedule(EXIT_GRACE_MS, () => stream.finish());
    });
    // A process need not read; its input is dropped then.
    stdin.on('error', () => undefined);
    stdout.on('error', () => undefined);
    for (const hand of this.#early) hand();
  }

  get streamId(): number {
    return this.#stream.id;
  }

  /** Whether a part of the process's group has yet to end. */
  get isEnding(): boolean {
    return this.#ender?.isEnding === true;
  }

  /** Whether the process outlives its stream: it closed its output, and both directions have ended. It may still read. */
  get isAlone(): boolean {
    return this.isStreamOver && this.#endReason === null && this.#process?.stdout.readableEnded === true;
  }

  /** Whether the process was told to end. */
  get isToEnd(): boolean {
    return this.#killAtMs < Number.POSITIVE_INFINITY;
  }

  /** Ends the process and its group. */
  end(): void {
    this.#kill(KILL_AFTER_MS);
  }

  /** Kills the process and its group soon; resolves once the process has exited. */
  async stop(): Promise<void> {
    if (this.#process === null) this.#stream.refuse('connect-failed', this.#options.describe('is no longer offered'));
    if (!this.#isGone) {
      this.#kill(KILL_AT_STOP_MS);
      await this.#gone.promise;
    }
    // What it has left behind was told to end, too.
    if (this.isEnding) this.#ender?.end(['SIGKILL'], 0);
  }

  handleData(bytes: Buffer): boolean {
    if (this.#writer !== null) return this.#writer.write(bytes);
    const kept = Buffer.from(bytes);
    this.#early.push(() => this.#writer?.write(kept));
    return false;
  }

  handleFin(): void {
    this.#whenBegun(() => this.#writer?.end());
  }

  /** The peer stopped reading: closes the pipe, so that the process notices. */
  handleStop(): void {
    this.#whenBegun(() => this.#process?.stdout.destroy());
  }

  #whenBegun(act: () => void): void {
    if (this.#process === null) this.#early.push(act);
    else act();
  }

  handleSent(): void {
    if (this.#failLater !== null) this.#failLater();
    else this.#pump();
  }

  handleEnd(reason: VproxyError | null): void {
    this.isStreamOver = true;
    this.#endReason = reason;
    this.#isGone ||= this.#process === null;
    if (!this.#isGone && !this.isAlone) this.end();
    this.#finishIfDone();
  }

  /** Sends the output of the process as far as the stream takes it; an ended stream takes everything. */
  #pump(): void {
    while (!this.#stream.isWaiting) {
      const chunk = this.#process?.stdout.read() as Buffer | null | undefined;
      if (chunk === null || chunk === undefined) return;
      this.#stream.send(chunk, 0, chunk.length, false);
    }
  }

  /** The process has exited and no process holds its output: all of it was read. */
  #closed({ status, signal }: ProcessEnd): void {
    this.#isGone = true;
    if (!this.isEnding) this.#process?.release();
    this.#cancelTimer?.();
    const stream = this.#stream;
    if (status === 0) {
      // Stop before finishing, so that the peer's socket is not cut off from data sent to it.
      stream.stop('cancelled', this.#options.describe('exited'));
      stream.finish();
    } else {
      const ending = signal === null ? `exited with status ${status ?? 'unknown'}` : `was killed by ${signal}`;
      const fail = (): void => stream.reset('local-error', this.#options.describe(ending));
      if (stream.isWaiting) this.#failLater = fail;
      else fail();
    }
    this.#gone.resolve();
    this.#finishIfDone();
  }

  /** Does nothing if it is killed earlier. */
  #kill(killAfterMs: number): void {
    const killAtMs = this.#options.clock.now() + killAfterMs;
    if (killAtMs >= this.#killAtMs) return;
    this.#killAtMs = killAtMs;
    this.#cancelTimer?.();
    this.#ender?.end(['SIGTERM'], killAfterMs);
    // Unread output must not hide that the process has exited. Its input stays open: what came is not the whole.
    this.#pump();
    this.#cancelTimer = this.#options.clock.schedule(killAfterMs, () => {
      this.#process?.stdout.destroy();
      this.#process?.stderr.destroy();
    });
  }

  #finishIfDone(): void {
    if (!this.#isGone || !this.isStreamOver || this.#isDone) return;
    this.#isDone = true;
    this.#options.onDone(this.#endReason);
  }
}
