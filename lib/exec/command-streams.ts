/** The input and the outputs of a command as records: each is sent by one side, within bounds that the other side sets. */
import { type Duplex, type Readable, Writable } from 'node:stream';
import { VproxyError } from '../errors.js';
import { ByteQueue } from '../util/bytes/byte-queue.js';
import { encodeRecord, encodeRecordHeader } from '../util/bytes/records.js';
import { EXEC_KIND, encodeEof, STDIN_CREDIT_BYTES } from './exec-messages.js';

/** The longest record of an output, in bytes. */
const MAX_PIECE_BYTES = 65_536;

/** A payload up to here is copied behind its header: that is cheaper than a second write. */
const COPY_BYTES = 4096;

/** While this many bytes wait in the stream, the output is not read. */
const MAX_WAITING_BYTES = 131_072;

/** Nor while this number of its pieces waits, however short: the pipe puts together what the command writes next. */
const MAX_WAITING_PIECES = 16;

interface OutputSenderOptions {
  readonly source: Readable;
  /** 1 or 2: standard output or error. */
  readonly fd: 1 | 2;
  readonly stream: Writable;
  /** Told what is sent, before it is; null: nobody is. */
  readonly onBytes: ((bytes: Buffer) => void) | null;
  /** EOF is written. */
  readonly onEnd: () => void;
}

/** The runner's side of an output: sends what the command writes, and EOF. */
export class OutputSender {
  readonly #options: OutputSenderOptions;
  #sentBytes = 0;
  #waitingPieces = 0;
  #isHeldUp = false;
  #isEnded = false;

  readonly #onWritten = (): void => {
    this.#waitingPieces -= 1;
    this.#resume();
  };

  constructor(options: OutputSenderOptions) {
    this.#options = options;
    const { source, stream } = options;
    stream.on('drain', () => this.#resume());
    // Not `data`: Node makes the output of a process that has exited flow, paused or not.
    source.on('readable', () => this.#pump());
    source.once('end', () => this.end());
    // Where it fails, nothing more comes, and there is no `end`.
    source.once('close', () => this.end());
  }

  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Whether the caller does not take what is there. */
  get isHeldUp(): boolean {
    return this.#isHeldUp;
  }

  /** Closes the output to the command; EOF follows. */
  close(): void {
    this.#isHeldUp = false;
    this.#options.source.destroy();
  }

  /** Sends EOF, whatever may still come. */
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

/** The caller's side of standard input: sends what is written, within the credit, and EOF. It never fails: what nobody takes is dropped. */
export class StdinSender extends Writable {
  readonly #stream: Duplex;
  #creditBytes = STDIN_CREDIT_BYTES;
  #isClosed = false;
  #isSending = false;
  /** What is left of a write, and what is called when nothing is left. */
  #chunk: Buffer = Buffer.alloc(0);
  #onTaken: Callback | null = null;

  /** Writes to `stream`, which stays the caller's. */
  constructor(stream: Duplex) {
    super({ highWaterMark: PIECE_BYTES });
    this.#stream = stream;
  }

  /** Takes more credit. */
  grant(bytes: number): void {
    this.#creditBytes += bytes;
    this.#pump();
  }

  /** Nobody takes any more: what waits, and what comes, is dropped. */
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

/** Credit is given back when this much of it is used. */
const CREDIT_STEP_BYTES = STDIN_CREDIT_BYTES / 2;

/** The runner's side of standard input: hands it to the command, and keeps it until there is one. What comes for a command that takes nothing any more is dropped. */
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

  /** `sendCredit` is told how many more bytes may come. */
  constructor(sendCredit: (bytes: number) => void) {
    this.#sendCredit = sendCredit;
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** The next bytes; kept until the command has taken them. Throws `protocol-error` beyond the credit and behind the end. */
  push(bytes: Buffer): void {
    if (this.#isEnded) throw new VproxyError('protocol-error', 'exec: STDIN behind its EOF');
    if (bytes.length > this.#creditBytes) {
      throw new VproxyError(
        'protocol-error',
        `exec: STDIN ${bytes.length - this.#creditBytes} bytes beyond its credit`,
      );
    }
    this.#creditBytes -= bytes.length;
    this.#receivedBytes += bytes.length;
    if (this.#isDropped) this.#taken(bytes.length);
    else if (this.#stdin !== null && !this.#isWriting) this.#write(bytes);
    else this.#waiting.pushCopy(bytes);
  }

  /** No more will come. Throws `protocol-error` the second time. */
  end(): void {
    if (this.#isEnded) throw new VproxyError('protocol-error', 'exec: a second EOF of STDIN');
    this.#isEnded = true;
    this.#next();
  }

  /** The command takes what came, and what comes. */
  attach(stdin: Writable): void {
    this.#stdin = stdin;
    stdin.once('close', () => this.drop());
    this.#next();
  }

  /** Nobody takes anything any more. */
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
