/** The caller's end of a command on the peer: its input and outputs as streams, and its result. */
import { type Duplex, Readable, type Writable } from 'node:stream';
import { toVproxyError, VproxyError } from '../../errors.js';
import type { ExecResult } from '../../status/types.js';
import { encodeRecord } from '../../util/bytes/records.js';
import { systemClock } from '../../util/clock.js';
import { deferred, LoopTurns } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import { RecordFlow } from '../record-flow.js';
import {
  decodeCredit,
  decodeEof,
  decodeExit,
  decodeStarted,
  EXEC_KIND,
  type ExecRequest,
  encodeEof,
  encodeResize,
  encodeStart,
  STDIN_CREDIT_BYTES,
  type TerminalSize,
} from './exec-messages.js';
import { StdinSender } from './stdin-sender.js';

/** How a command ended. */
export interface CommandEnd extends ExecResult {
  /** Its process id on the peer; null if it was not run. */
  readonly pid: number | null;
}

/** Bytes of an output buffered here before back-pressure stops the command. */
const OUTPUT_BYTES = 65_536;

/** Records whose payload is passed on as it arrives. */
const PIECES: ReadonlySet<number> = new Set([EXEC_KIND.STDOUT, EXEC_KIND.STDERR]);

/**
 * Runs a command on a stream to a peer's service `exec`, from `ControlClient.connect('exec')` or a `MuxStream`. The call
 * then owns the stream. Throws `bad-argument` for a request that is too long.
 */
export function runCommand(stream: Duplex, request: ExecRequest): ExecCall {
  return new ExecCall(stream, request);
}

/**
 * A running command. As with a child process, read both outputs: the command blocks once 64 KiB of an unread one wait
 * (`stderr.resume()` discards it). Destroying an output closes it on the peer: a command that still writes to it gets SIGPIPE.
 */
export class ExecCall {
  /** Standard input, buffered until the command reads it; `end()` sends EOF. Never fails: unread input is dropped. */
  readonly stdin: Writable;
  /** Standard output; with a terminal, everything that the command writes. Fails with the error of `result`. */
  readonly stdout: Readable;
  /** Standard error; empty with a terminal. Fails with the error of `result`. */
  readonly stderr: Readable;
  /**
   * How the command ended, including why it could not be run (`error`). Resolves once the outputs have been read to
   * their end. Rejects with `exec-unavailable` if the stream failed or ended without a result, with `command-denied`
   * if the peer refuses, and with `too-many-streams` if it runs too many commands. An unhandled rejection is harmless.
   */
  readonly result: Promise<CommandEnd>;
  /**
   * Resolves when the peer has ended the stream, right after the command's result, or when the stream has failed. A caller
   * that exits before that seems lost: its stream is reset, and the log reports it.
   */
  readonly streamEnd: Promise<void>;

  readonly #stream: Duplex;
  readonly #input: StdinSender;
  /** Whether input has credit only once the command has started. */
  readonly #waits: boolean;
  readonly #result = deferred<CommandEnd>();
  /** Outputs that are full for now. */
  readonly #full = new Set<Readable>();
  readonly #ended = new Set<Readable>();
  readonly #flow: RecordFlow;
  #hasBegun = false;
  #isOver = false;
  #pid: number | null = null;
  /** The last RESIZE, if it waits for room. */
  #lastSize: Buffer | null = null;

  /** See {@link runCommand}. */
  constructor(stream: Duplex, request: ExecRequest) {
    const start = encodeStart(request);
    this.#stream = stream;
    this.#waits = request.wait === true;
    this.#input = new StdinSender(stream, this.#waits ? 0 : STDIN_CREDIT_BYTES);
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
    const handler = {
      pieces: PIECES,
      onRecord: (kind: number, payload: Buffer) => this.#handleRecord(kind, payload),
      onPiece: (kind: number, bytes: Buffer) =>
        this.#push(kind === EXEC_KIND.STDOUT ? this.stdout : this.stderr, bytes),
      // After EXIT, let the peer close first: simultaneous closes look like a reset.
      onEnd: () => (this.#isOver ? void this.#stream.end() : this.#stop(null)),
      onError: (error: unknown) => this.#stop(error as Error),
    };
    this.#flow = new RecordFlow(stream, handler, new LoopTurns());
    // What came before may hold the result.
    stream
      .once('close', () => this.#flow.after(() => this.#fail(stream.errored)))
      .on('error', (error) => this.#flow.after(() => this.#fail(error)));
    // A `MuxStream` emits `stop` when its peer stops reading; only the stream's end ends the call.
    stream.on('stop', () => undefined);
    stream.on('drain', () => {
      if (this.#lastSize !== null && !this.#isOver) stream.write(this.#lastSize);
      this.#lastSize = null;
    });
    stream.write(start);
  }

  /** The process id on the peer; null before the command runs. */
  get pid(): number | null {
    return this.#pid;
  }

  /** Signals the process group of the command: `SIGINT`. No effect once it has ended. */
  signal(name: string): void {
    if (!this.#isOver) this.#stream.write(encodeRecord(EXEC_KIND.SIGNAL, name));
  }

  /** Resizes the command's terminal; no effect for a size below 1. Throws `bad-argument` above 65,535. */
  resize(size: TerminalSize): void {
    if (this.#isOver || size.columns < 1 || size.rows < 1) return;
    const record = encodeResize(size);
    if (this.#stream.writableNeedDrain) this.#lastSize = record;
    else this.#stream.write(record);
  }

  /**
   * Cancels the command: the peer sends SIGHUP and SIGTERM, later SIGKILL. `result` rejects with `exec-unavailable`. If the command
   * had ended, `result` resolves, and outputs that were not read to their end fail with `cancelled`.
   */
  cancel(): void {
    const reason = new VproxyError('cancelled', 'the call was cancelled');
    this.#stop(reason);
    this.stdout.destroy(reason);
    this.stderr.destroy(reason);
  }

  #output(fd: 1 | 2): Readable {
    const output = new Readable({ highWaterMark: OUTPUT_BYTES, read: () => this.#resume(output) });
    // Without a listener the failure is still reported by `result`.
    output.on('error', () => undefined);
    output.once('close', () => {
      this.#resume(output);
      if (!this.#isOver && !this.#ended.has(output)) this.#stream.write(encodeEof(fd));
    });
    return output;
  }

  #handleRecord(kind: number, payload: Buffer): void {
    this.#hasBegun = true;
    // Unknown kinds come from a newer peer.
    if (kind === EXEC_KIND.STARTED) {
      this.#pid = decodeStarted(payload);
      if (this.#waits) this.#input.grant(STDIN_CREDIT_BYTES);
    } else if (kind === EXEC_KIND.CREDIT) this.#input.grant(decodeCredit(payload));
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
    // Only the end of the stream follows: outputs need no back-pressure.
    this.#flow.stop();
    void Promise.all([delivered(this.stdout), delivered(this.stderr)]).then(() => {
      const { error } = exit;
      if (error?.code !== 'too-many-streams') this.#result.resolve({ ...exit, pid: this.#pid });
      else this.#result.reject(new VproxyError(error.code, escapeText(error.message, 1000)));
    });
  }

  #push(output: Readable, bytes: Buffer): void {
    this.#hasBegun = true;
    if (this.#ended.has(output)) throw new VproxyError('protocol-error', 'exec: output after its EOF');
    if (output.destroyed || output.push(bytes)) return;
    this.#full.add(output);
    this.#flow.pause();
  }

  #resume(output: Readable): void {
    if (this.#full.delete(output) && this.#full.size === 0) this.#flow.resume();
  }

  #end(output: Readable): void {
    if (this.#ended.has(output)) return;
    this.#ended.add(output);
    output.push(null);
  }

  /** Fails the call and resets the stream. */
  #stop(error: Error | null): void {
    if (this.#isOver) return;
    this.#fail(error);
    this.#stream.destroy();
  }

  #fail(error: Error | null): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#flow.stop();
    const reason = lostError(error, this.#hasBegun);
    this.#input.close();
    this.stdout.destroy(reason);
    this.stderr.destroy(reason);
    this.#result.reject(reason);
  }
}

/** Resolves when an output has been read to its end; at once if nothing reads it yet. */
function delivered(output: Readable): Promise<void> {
  if (output.readableFlowing === null || output.readableEnded || output.destroyed) return Promise.resolve();
  return new Promise((resolve) => output.once('end', resolve).once('close', resolve));
}

/** For a peer that does not offer `exec`, or not to this side. */
const NOT_ALLOWED = 'the peer does not allow commands; start vproxy there with --allow-exec';

/**
 * The error for a stream to `exec` that could not be opened: `command-denied` if the peer does not offer or denies it,
 * `too-many-streams` if there are too many, `not-found` if the channel does not exist, `cancelled` by the caller, otherwise
 * `exec-unavailable` with the message of `error`.
 */
export function openError(error: unknown): VproxyError {
  if (isFull(error) || (error instanceof VproxyError && (error.code === 'not-found' || error.code === 'cancelled')))
    return error;
  return isRefusal(error) ? denied(error) : unavailable(toVproxyError(error).message, error);
}

/** The error for a stream that failed, or ended (null), before the result; `hasBegun`: something had been received. */
function lostError(error: Error | null, hasBegun: boolean): VproxyError {
  if (!hasBegun && isFull(error)) return error;
  if (!hasBegun && isRefusal(error)) return denied(error);
  const unknown = hasBegun ? 'the result of the command is unknown' : 'it is unknown whether the command ran';
  return unavailable(`${unknown}: ${error === null ? 'closed by the peer' : error.message}`, error);
}

/** The command was not run, and may be tried again. */
const isFull = (error: unknown): error is VproxyError =>
  error instanceof VproxyError && error.code === 'too-many-streams';

/** An error with a cause means that the system denied access to the control socket. */
const isRefusal = (error: unknown): boolean =>
  error instanceof VproxyError &&
  (error.code === 'unknown-service' || (error.code === 'denied' && error.cause === undefined));

const denied = (cause: unknown): VproxyError => new VproxyError('command-denied', NOT_ALLOWED, { cause });

const unavailable = (message: string, cause: unknown): VproxyError =>
  new VproxyError('exec-unavailable', escapeText(message, 1000), { cause });

/** Resolves when the caller can leave without being taken for lost, or has waited long enough for the end of the stream. */
export function streamOver({ streamEnd }: ExecCall, maxMs: number): Promise<void> {
  return new Promise((resolve) => {
    const cancel = systemClock.schedule(maxMs, resolve);
    void streamEnd.then(cancel).then(resolve);
  });
}

/** Bytes kept of each output by default. */
export const MAX_COLLECTED_BYTES = 67_108_864;

/** The result of a command and its outputs. */
export interface CommandOutput extends CommandEnd {
  /** Standard output; of a command in a terminal, everything. */
  readonly stdout: Buffer;
  /** Standard error. */
  readonly stderr: Buffer;
  /** Whether `stdout` is incomplete. */
  readonly stdoutTruncated: boolean;
  /** Whether `stderr` is incomplete. */
  readonly stderrTruncated: boolean;
}

/**
 * Reads both outputs of a command to their end. Keeps `maxBytes` (default 64 MiB) of each and discards the rest, so that
 * the command never blocks. Rejects as `ExecCall.result` does.
 */
export async function collectOutput(
  call: ExecCall,
  { maxBytes = MAX_COLLECTED_BYTES }: { readonly maxBytes?: number } = {},
): Promise<CommandOutput> {
  const stdout = keep(call.stdout, maxBytes);
  const stderr = keep(call.stderr, maxBytes);
  const read = Promise.all([delivered(call.stdout), delivered(call.stderr)]);
  const end = await call.result;
  // The result does not wait for outputs that nothing read when it came.
  await read;
  return {
    ...end,
    stdout: Buffer.concat(stdout.chunks.splice(0)),
    stderr: Buffer.concat(stderr.chunks.splice(0)),
    // A call that was cancelled after its end has dropped what nobody had read.
    stdoutTruncated: stdout.isTruncated || !call.stdout.readableEnded,
    stderrTruncated: stderr.isTruncated || !call.stderr.readableEnded,
  };
}

/** A short chunk would keep alive all that came with it. */
const alone = (chunk: Buffer): Buffer => (chunk.length * 4 < chunk.buffer.byteLength ? Buffer.from(chunk) : chunk);

/** Chunks are merged in groups of this size: a peer may send one byte at a time. */
const GATHERED_CHUNKS = 256;

interface Kept {
  readonly chunks: Buffer[];
  isTruncated: boolean;
}

function keep(output: Readable, maxBytes: number): Kept {
  const kept: Kept = { chunks: [], isTruncated: false };
  let leftBytes = maxBytes;
  let gathered = 0;
  output.on('data', (chunk: Buffer) => {
    kept.isTruncated ||= chunk.length > leftBytes;
    if (leftBytes > 0) kept.chunks.push(alone(chunk.subarray(0, leftBytes)));
    leftBytes -= Math.min(leftBytes, chunk.length);
    if (kept.chunks.length - gathered < GATHERED_CHUNKS) return;
    kept.chunks.push(Buffer.concat(kept.chunks.splice(gathered)));
    gathered += 1;
  });
  return kept;
}
