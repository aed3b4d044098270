/** The input and outputs of a command as records; the receiver bounds what may be in flight. */
import { type Duplex, type Readable, Writable } from 'node:stream';
import { VproxyError } from '../../errors.js';
import { ByteQueue } from '../../util/bytes/byte-queue.js';
import { encodeRecord, encodeRecordHeader } from '../../util/bytes/records.js';
import { EXEC_KIND, encodeEof, STDIN_CREDIT_BYTES } from './exec-messages.js';

/** The longest output record, in bytes. */
const MAX_PIECE_BYTES = 65_536;

/** Payloads up to this size are copied behind their header: cheaper than a second write. */
const COPY_BYTES = 4096;

/** The output is not read while this many bytes wait in the stream. */
const MAX_WAITING_BYTES = 131_072;

/** Nor while this many pieces wait, however short: meanwhile the pipe coalesces what the command writes. */
const MAX_WAITING_PIECES = 16;

interface OutputSenderOptions {
  readonly source: Readable;
  /** Standard output or error. */
  readonly fd: 1 | 2;
  readonly stream: Writable;
  /** Called with the bytes just before they are sent; or null. */
  readonly onBytes: ((bytes: Buffer) => void) | null;
  /** Called when EOF is written. */
  readonly onEnd: () => void;
}

/** The runner's side of an output: sends what the command writes, then EOF. */
export class OutputSender {
  readonly #options: OutputSenderOptions;
  #sentBytes = 0;
  #waitingPieces = 0;
  #isHeldUp = false;
  #wasHeldUp = false;
  #isEnded = false;

  readonly #onWritten = (): void => {
    this.#waitingPieces -= 1;
    this.#resume();
  };

  constructor(options: OutputSenderOptions) {
    this.#options = options;
    const { source, stream } = options;
    stream.on('drain', () => this.#resume());
    // Not `data`: when a process exits, Node makes its output flow, even if paused.
    source.on('readable', () => this.#pump());
    source.once('end', () => this.end());
    // A failed source emits no `end`.
    source.once('close', () => this.end());
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Whether output has waited since the last call because the caller did not read it. */
  wasHeldUp(): boolean {
    const was = this.#wasHeldUp;
    this.#wasHeldUp = this.#isHeldUp;
    return was;
  }

  /** Closes the pipe to the command; EOF follows. */
  close(): void {
    this.#isHeldUp = false;
    this.#options.source.destroy();
  }

  /** Sends EOF now, even if the source is still open. */
  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const { stream, fd, onEnd } = this.#options;
    if (!stream.destroyed) stream.write(encodeEof(fd));
    onEnd();
  }

  #pump(): void {
    const { source } = this.#options;
    while (!this.#isEnded) {
      this.#isHeldUp = this.#isFull();
      this.#wasHeldUp ||= this.#isHeldUp;
      if (this.#isHeldUp) return;
      const bytes = source.read() as Buffer | null;
      if (bytes === null) return;
      this.#send(bytes);
    }
  }

  #resume(): void {
    if (this.#isHeldUp) this.#pump();
  }

  #isFull(): boolean {
    const { writableNeedDrain, writableLength } = this.#options.stream;
    return this.#waitingPieces >= MAX_WAITING_PIECES || (writableNeedDrain && writableLength >= MAX_WAITING_BYTES);
  }

  #send(bytes: Buffer): void {
    const { stream, fd, onBytes } = this.#options;
    if (stream.destroyed) return;
    onBytes?.(bytes);
    const kind = fd === 1 ? EXEC_KIND.STDOUT : EXEC_KIND.STDERR;
    this.#sentBytes += bytes.length;
    for (let at = 0; at < bytes.length; at += MAX_PIECE_BYTES) {
      const piece = bytes.subarray(at, at + MAX_PIECE_BYTES);
      const header = encodeRecordHeader(kind, piece.length);
      this.#waitingPieces += 1;
      if (piece.length <= COPY_BYTES) stream.write(Buffer.concat([header, piece]), this.#onWritten);
      else {
        stream.cork();
        stream.write(header);
        stream.write(piece, this.#onWritten);
        stream.uncork();
      }
    }
  }
}

type Callback = (error?: Error | null) => void;

/** The longest STDIN record, in bytes. */
const PIECE_BYTES = 65_536;

/** The caller's side of standard input: sends data within the credit, then EOF. Never fails: unwanted input is dropped. */
export class StdinSender extends Writable {
  readonly #stream: Duplex;
  #creditBytes = STDIN_CREDIT_BYTES;
  #isClosed = false;
  #isSending = false;
  /** The rest of the current write, and its callback. */
  #chunk: Buffer = Buffer.alloc(0);
  #onTaken: Callback | null = null;

  /** Writes to `stream`, which the caller still owns. */
  constructor(stream: Duplex) {
    super({ highWaterMark: PIECE_BYTES });
    this.#stream = stream;
  }

  /** Adds credit. */
  grant(bytes: number): void {
    this.#creditBytes += bytes;
    this.#pump();
  }

  /** Drops waiting and later input: no one reads it. */
  close(): void {
    this.#isClosed = true;
    this.#taken();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: Callback): void {
    this.#chunk = chunk;
    this.#onTaken = callback;
    this.#pump();
  }

  override _final(callback: Callback): void {
    if (!this.#isClosed) this.#stream.write(encodeEof(0));
    callback();
  }

  #pump(): void {
    if (this.#onTaken === null || this.#isSending) return;
    if (this.#isClosed || this.#chunk.length === 0) {
      this.#taken();
      return;
    }
    const count = Math.min(this.#chunk.length, this.#creditBytes, PIECE_BYTES);
    if (count === 0) return;
    this.#creditBytes -= count;
    this.#isSending = true;
    this.#stream.write(encodeRecord(EXEC_KIND.STDIN, this.#chunk.subarray(0, count)), () => {
      this.#isSending = false;
      this.#pump();
    });
    this.#chunk = this.#chunk.subarray(count);
  }

  #taken(): void {
    const onTaken = this.#onTaken;
    this.#onTaken = null;
    onTaken?.();
  }
}

/** Credit is returned once this much of it is used. */
const CREDIT_STEP_BYTES = STDIN_CREDIT_BYTES / 2;

/** The runner's side of standard input: buffers it until the command runs; drops it once the command no longer reads. */
export class StdinReceiver {
  readonly #sendCredit: (bytes: number) => void;
  #stdin: Writable | null = null;
  readonly #waiting = new ByteQueue();
  #creditBytes = STDIN_CREDIT_BYTES;
  #takenBytes = 0;
  #receivedBytes = 0;
  #isWriting = false;
  #isEnded = false;
  #isDropped = false;

  /** Calls `sendCredit` with the number of further bytes that the caller may send. */
  constructor(sendCredit: (bytes: number) => void) {
    this.#sendCredit = sendCredit;
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Takes the next bytes, for the command to read. Throws `protocol-error` beyond the credit and after EOF. */
  push(bytes: Buffer): void {
    if (this.#isEnded) throw new VproxyError('protocol-error', 'exec: STDIN after its EOF');
    if (bytes.length > this.#creditBytes) {
      throw new VproxyError(
        'protocol-error',
        `exec: STDIN exceeds its credit by ${bytes.length - this.#creditBytes} bytes`,
      );
    }
    this.#creditBytes -= bytes.length;
    this.#receivedBytes += bytes.length;
    if (this.#isDropped) this.#taken(bytes.length);
    else if (this.#stdin !== null && !this.#isWriting) this.#write(bytes);
    else this.#waiting.pushCopy(bytes);
  }

  /** Takes EOF. Throws `protocol-error` the second time. */
  end(): void {
    if (this.#isEnded) throw new VproxyError('protocol-error', 'exec: second EOF for STDIN');
    this.#isEnded = true;
    this.#next();
  }

  /** Connects the command, which gets the buffered input first. */
  attach(stdin: Writable): void {
    this.#stdin = stdin;
    stdin.once('close', () => this.drop());
    this.#next();
  }

  /** Drops buffered and later input. */
  drop(): void {
    this.#isDropped = true;
    const bytes = this.#waiting.byteCount;
    this.#waiting.clear();
    this.#taken(bytes);
  }

  #next(): void {
    if (this.#stdin === null || this.#isWriting || this.#isDropped) return;
    const block = this.#waiting.shift();
    if (block !== null) this.#write(block.bytes);
    else if (this.#isEnded) this.#stdin.end();
  }

  #write(bytes: Buffer): void {
    this.#isWriting = true;
    this.#stdin?.write(bytes, () => {
      this.#isWriting = false;
      this.#taken(bytes.length);
      this.#next();
    });
  }

  #taken(bytes: number): void {
    this.#takenBytes += bytes;
    if (this.#takenBytes < CREDIT_STEP_BYTES || this.#isEnded) return;
    this.#creditBytes += this.#takenBytes;
    this.#sendCredit(this.#takenBytes);
    this.#takenBytes = 0;
  }
}
