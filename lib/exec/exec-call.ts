/** A command at the peer, as its caller sees it: its input and outputs as streams, and how it ended. */
import { type Duplex, Readable, type Writable } from 'node:stream';
import { toVproxyError, VproxyError } from '../errors.js';
import { encodeRecord, RecordReader } from '../util/bytes/records.js';
import { deferred, LoopTurns } from '../util/concurrency.js';
import { escapeText } from '../util/escape.js';
import { StdinSender } from './command-streams.js';
import {
  decodeCredit,
  decodeEof,
  decodeExit,
  decodeStarted,
  EXEC_KIND,
  type ExecRequest,
  type ExecResult,
  encodeEof,
  encodeResize,
  encodeStart,
  type TerminalSize,
} from './exec-messages.js';

/** How a command ended. */
export interface CommandEnd extends ExecResult {
  /** Its process id at the peer; null where it was not run. */
  readonly pid: number | null;
}

/** How much of an output waits here to be taken, in bytes; then the command is held up. */
const OUTPUT_BYTES = 65_536;

/** The bytes of these go on as they come. */
const PIECES: ReadonlySet<number> = new Set([EXEC_KIND.STDOUT, EXEC_KIND.STDERR]);

/**
 * Runs a command on a stream to the service `exec` of a peer: one of `ControlClient.connect('exec')`, or a `MuxStream`. The
 * call owns the stream from then on. Throws `bad-argument` for a request that is too long.
 */
export function runCommand(stream: Duplex, request: ExecRequest): ExecCall {
  return new ExecCall(stream, request);
}

/**
 * A command that runs. Its outputs have to be taken, as those of a child process: one that is not holds the command up
 * when 64 KiB of it wait; `stderr.resume()` drops them. Destroying one closes it there: a command that still writes to it gets PIPE.
 */
export class ExecCall {
  /** Standard input: bytes wait here until the command takes them; `end()` is its end. Never fails: what nobody takes is dropped. */
  readonly stdin: Writable;
  /** Standard output; with a terminal, all that the command writes. Fails with what `result` rejects with. */
  readonly stdout: Readable;
  /** Standard error; with a terminal, nothing. Fails with what `result` rejects with. */
  readonly stderr: Readable;
  /**
   * How the command ended, also where it could not be run (`error`); resolved when the reader of the outputs has every
   * byte of them. Rejects with `exec-unavailable` where the stream failed, or ended without a word, and with
   * `command-denied` where the peer refuses it. No more than that becomes of a rejection that nobody handles.
   */
  readonly result: Promise<CommandEnd>;
  /**
   * Resolved when the peer has ended the stream, which it does right behind the end of the command, or when the stream has
   * failed. A process that is gone before seems to have been lost: its stream is reset, and the log says so.
   */
  readonly streamEnd: Promise<void>;

  readonly #stream: Duplex;
  readonly #input: StdinSender;
  readonly #result = deferred<CommandEnd>();
  /** Outputs that take no more for now. */
  readonly #full = new Set<Readable>();
  readonly #ended = new Set<Readable>();
  readonly #turns = new LoopTurns();
  /** Whether a part of what came is left to another turn. */
  #hasRest = false;
  /** The end of the stream that came meanwhile. */
  #behindRest: (() => void) | null = null;
  #hasBegun = false;
  #isOver = false;
  #pid: number | null = null;

  /** See {@link runCommand}. */
  constructor(stream: Duplex, request: ExecRequest) {
    const start = encodeStart(request);
    this.#stream = stream;
    this.#input = new StdinSender(stream);
    this.stdin = this.#input;
    this.stdout = this.#output(1);
    this.stderr = this.#output(2);
    this.result = this.#result.promise;
    this.result.catch(() => undefined);
    this.streamEnd = new Promise((resolve) => stream.once('end', resolve).once('close', resolve));
    if (request.hasInput === false) {
      this.#input.close();
      this.#input.end();
    }
    const reader = new RecordReader({
      pieces: PIECES,
      onRecord: (kind, payload) => this.#handleRecord(kind, payload),
      onPiece: (kind, bytes) => this.#push(kind === EXEC_KIND.STDOUT ? this.stdout : this.stderr, bytes),
      isFull: () => this.#turns.isOver,
    });
    stream.on('data', (chunk: Buffer) => this.#read(reader, chunk));
    stream
      .once('end', () => this.#afterRest(() => this.#handleEnd()))
      .once('close', () => this.#afterRest(() => this.#fail(stream.errored)))
      .on('error', (error) => this.#afterRest(() => this.#fail(error)));
    // A `MuxStream` says so when its peer reads no more; what ends the call is the stream's end.
    stream.on('stop', () => undefined);
    stream.write(start);
  }

  /** The process id at the peer; null before it runs. */
  get pid(): number | null {
    return this.#pid;
  }

  /** Signals the process group of the command: `SIGINT`. Once it has ended, nothing is done. */
  signal(name: string): void {
    if (!this.#isOver) this.#stream.write(encodeRecord(EXEC_KIND.SIGNAL, name));
  }

  /** Tells the command's terminal its new size. */
  resize(size: TerminalSize): void {
    if (!this.#isOver) this.#stream.write(encodeResize(size));
  }

  /** Gives the command up: the peer ends it with HUP and TERM, and KILL later. `result` rejects with `exec-unavailable`. */
  cancel(): void {
    this.#stop(new VproxyError('cancelled', 'the call was given up'));
  }

  #output(fd: 1 | 2): Readable {
    const output = new Readable({ highWaterMark: OUTPUT_BYTES, read: () => this.#resume(output) });
    // Who does not listen to it hears of a failure by `result`.
    output.on('error', () => undefined);
    output.once('close', () => {
      this.#resume(output);
      if (!this.#isOver && !this.#ended.has(output)) this.#stream.write(encodeEof(fd));
    });
    return output;
  }

  #read(reader: RecordReader, chunk: Buffer): void {
    if (this.#isOver) return;
    try {
      const readBytes = reader.push(chunk);
      if (readBytes < chunk.length) this.#readLater(reader, chunk.subarray(readBytes));
    } catch (error) {
      this.#stop(error as Error);
    }
  }

  /** The turn is over: the stream stands still until the rest was read. */
  #readLater(reader: RecordReader, rest: Buffer): void {
    this.#hasRest = true;
    this.#stream.pause();
    this.#turns.later(() => {
      this.#hasRest = false;
      this.#read(reader, rest);
      this.#goOn();
    });
  }

  #goOn(): void {
    if (this.#hasRest) return;
    this.#behindRest?.();
    this.#flow();
  }

  /** Unless something holds the stream up: behind EXIT no output does. */
  #flow(): void {
    if ((this.#isOver || this.#full.size === 0) && !this.#hasRest) this.#stream.resume();
  }

  #handleRecord(kind: number, payload: Buffer): void {
    this.#hasBegun = true;
    // Kinds that are not known are those of a newer peer.
    if (this.#isOver) return;
    if (kind === EXEC_KIND.STARTED) this.#pid = decodeStarted(payload);
    else if (kind === EXEC_KIND.CREDIT) this.#input.grant(decodeCredit(payload));
    else if (kind === EXEC_KIND.EOF) this.#handleEof(decodeEof(payload));
    else if (kind === EXEC_KIND.EXIT) this.#handleExit(decodeExit(payload));
  }

  #handleEof(fd: 0 | 1 | 2): void {
    if (fd === 0) this.#input.close();
    else this.#end(fd === 1 ? this.stdout : this.stderr);
  }

  #handleExit(exit: ExecResult): void {
    this.#isOver = true;
    this.#input.close();
    this.#end(this.stdout);
    this.#end(this.stderr);
    // No output holds the stream up any more: nothing but its end comes.
    this.#stream.resume();
    void Promise.all([delivered(this.stdout), delivered(this.stderr)]).then(() => {
      this.#result.resolve({ ...exit, pid: this.#pid });
    });
  }

  /** Behind EXIT this side ends the stream after the peer: an end that meets one's own cannot be told from a reset. */
  #handleEnd(): void {
    if (this.#isOver) this.#stream.end();
    else this.#stop(null);
  }

  #push(output: Readable, bytes: Buffer): void {
    this.#hasBegun = true;
    if (this.#ended.has(output)) throw new VproxyError('protocol-error', 'exec: bytes behind the end of an output');
    if (output.destroyed || output.push(bytes)) return;
    this.#full.add(output);
    this.#stream.pause();
  }

  #resume(output: Readable): void {
    if (this.#full.delete(output)) this.#flow();
  }

  #end(output: Readable): void {
    if (this.#ended.has(output)) return;
    this.#ended.add(output);
    output.push(null);
  }

  /** The stream is of no use any more, and its other end does not know that. */
  #stop(error: Error | null): void {
    if (this.#isOver) return;
    this.#fail(error);
    this.#stream.destroy();
  }

  /** What came before the end of the stream counts: it may be how the command ended. */
  #afterRest(end: () => void): void {
    if (this.#hasRest) this.#behindRest ??= end;
    else end();
  }

  #fail(error: Error | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    const reason = lostError(error, this.#hasBegun);
    this.#input.close();
    this.stdout.destroy(reason);
    this.stderr.destroy(reason);
    this.#result.reject(reason);
  }
}

/** Resolved when somebody who takes an output has all of it; at once where nobody does yet. */
function delivered(output: Readable): Promise<void> {
  if (output.readableFlowing === null || output.readableEnded || output.destroyed) return Promise.resolve();
  return new Promise((resolve) => output.once('end', resolve).once('close', resolve));
}

/** What is said where the peer offers no `exec`, or not to this side. */
const NOT_ALLOWED = 'the peer lets no commands be run (vproxy --allow-exec there)';

/**
 * The error for a stream to `exec` that could not be opened: `command-denied` where the peer offers none or denies it,
 * else `exec-unavailable` with the same message.
 */
export function openError(error: unknown): VproxyError {
  return isRefusal(error) ? denied(error) : unavailable(toVproxyError(error).message, error);
}

/** The error for a stream that failed, or ended (null), before it said how the command ended; `hasBegun`: it had said something. */
function lostError(error: Error | null, hasBegun: boolean): VproxyError {
  if (!hasBegun && isRefusal(error)) return denied(error);
  const unknown = hasBegun ? 'how the command ended is not known' : 'whether the command ran is not known';
  return unavailable(`${unknown}: ${error === null ? 'the other side ended the stream' : error.message}`, error);
}

/** Where the system denies the control socket, its own error is the cause. */
const isRefusal = (error: unknown): boolean =>
  error instanceof VproxyError &&
  (error.code === 'unknown-service' || (error.code === 'denied' && error.cause === undefined));

const denied = (cause: unknown): VproxyError => new VproxyError('command-denied', NOT_ALLOWED, { cause });

const unavailable = (message: string, cause: unknown): VproxyError =>
  new VproxyError('exec-unavailable', escapeText(message, 1000), { cause });

/** How much of each output is kept by default, in bytes. */
export const MAX_COLLECTED_BYTES = 67_108_864;

/** How a command ended, and what it wrote. */
export interface CommandOutput extends CommandEnd {
  /** Standard output; of a command in a terminal, everything. */
  readonly stdout: Buffer;
  /** Standard error. */
  readonly stderr: Buffer;
  /** Whether there was more standard output than is kept. */
  readonly stdoutTruncated: boolean;
  /** The same for standard error. */
  readonly stderrTruncated: boolean;
}

/**
 * Takes both outputs of a command to their end. Of each, `maxBytes` (default 64 MiB) are kept; the rest is read and dropped, so that
 * the command is never held up. Rejects as `ExecCall.result` does.
 */
export async function collectOutput(
  call: ExecCall,
  { maxBytes = MAX_COLLECTED_BYTES }: { readonly maxBytes?: number } = {},
): Promise<CommandOutput> {
  const stdout = keep(call.stdout, maxBytes);
  const stderr = keep(call.stderr, maxBytes);
  const end = await call.result;
  return {
    ...end,
    stdout: Buffer.concat(stdout.chunks),
    stderr: Buffer.concat(stderr.chunks),
    stdoutTruncated: stdout.isTruncated,
    stderrTruncated: stderr.isTruncated,
  };
}

interface Kept {
  readonly chunks: Buffer[];
  isTruncated: boolean;
}

function keep(output: Readable, maxBytes: number): Kept {
  const kept: Kept = { chunks: [], isTruncated: false };
  let leftBytes = maxBytes;
  output.on('data', (chunk: Buffer) => {
    kept.isTruncated ||= chunk.length > leftBytes;
    if (leftBytes > 0) kept.chunks.push(chunk.subarray(0, leftBytes));
    leftBytes -= Math.min(leftBytes, chunk.length);
  });
  return kept;
}
