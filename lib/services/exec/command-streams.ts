/** The runner's side of the input and outputs of a command, as records; the receiver bounds what may be in flight. */
import net from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { HEADER_BYTES } from '../../codec/limits.js';
import { VproxyError } from '../../errors.js';
import { FrameSlab } from '../../forward/frame-slab.js';
import { LocalWriter } from '../../forward/local-writer.js';
import { descriptorOf, readBuffered } from '../../system/sockets/node-sockets.js';
import { enlargePipe } from '../../system/sockets/socket-buffer.js';
import { ByteQueue } from '../../util/bytes/byte-queue.js';
import { encodeRecordHeader, RECORD_HEADER_BYTES } from '../../util/bytes/records.js';
import { EXEC_KIND, encodeEof, STDIN_CREDIT_BYTES } from './exec-messages.js';

/** The largest read, in bytes. */
const READ_BYTES = 65_536;

/** The limit on the memory of an output's unwritten pieces, in bytes. At the limit, reading pauses. */
const MAX_WAITING_BYTES = 32_768;

/** The limit on their number, however short: meanwhile the pipe coalesces what the command writes. */
const MAX_WAITING_PIECES = 16;

/**
 * When this many reads in a row had to wait for less than this, in milliseconds, the command writes all the time. Unless a read
 * brings that much, the next one waits for a while then: a record costs the same, however short it is.
 */
const QUICK_READS = 8;
const QUICK_MS = 10;
const GATHERED_BYTES = 32_768;
const GATHER_MS = 1;
/** The pipe of such a command. */
const PIPE_BYTES = 262_144;

interface OutputSenderOptions {
  readonly source: Readable;
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
  readonly #slab = new FrameSlab(READ_BYTES);
  #sentBytes = 0;
  /** Writes that the stream still holds. */
  #waitingPieces = 0;
  /** The memory of all pieces since none waited. */
  #waitingBytes = 0;
  #isHeldUp = false;
  #wasHeldUp = false;
  #isEnded = false;
  /** Reads in a row that had data at once, and when the next one began to wait. */
  #quickReads = 0;
  #readableSinceMs = 0;

  readonly #onWritten = (): void => {
    this.#waitingPieces -= 1;
    if (this.#waitingPieces > 0) return;
    this.#waitingBytes = 0;
    this.#slab.returned(true);
    if (this.#isHeldUp) this.#readOn();
  };

  /** The output may have been held up meanwhile: at the exit of a process, Node makes it flow. */
  readonly #endGathering = (): void => {
    if (!this.#isHeldUp) this.#readOn();
  };

  readonly #readOn = (): void => {
    this.#isHeldUp = false;
    this.#readableSinceMs = performance.now();
    this.#options.source.resume();
  };

  constructor(options: OutputSenderOptions) {
    this.#options = options;
    const { source } = options;
    source.once('end', () => this.end());
    // A failed source emits no `end`.
    source.once('close', () => this.end());
    readBuffered(source, { buffer: () => this.#slab.room(0), callback: (byteCount) => this.#handleRead(byteCount) });
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

  /** The command got input: what it answers must not be gathered. */
  hurry(): void {
    this.#quickReads = 0;
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

  /** Sends what was read, even while an earlier piece waits: when a process exits, Node makes its output flow. */
  #handleRead(byteCount: number): boolean {
    const { stream, fd, onBytes } = this.#options;
    const slab = this.#slab.take(byteCount);
    if (this.#isEnded || stream.destroyed) return true;
    const isQuick = performance.now() - this.#readableSinceMs < QUICK_MS;
    if (!isQuick) this.#quickReads = 0;
    else if (!this.#slab.wasFull) this.#quickReads += 1;
    onBytes?.(slab.subarray(HEADER_BYTES, HEADER_BYTES + byteCount));
    const header = encodeRecordHeader(fd === 1 ? EXEC_KIND.STDOUT : EXEC_KIND.STDERR, byteCount);
    header.copy(slab, HEADER_BYTES - RECORD_HEADER_BYTES);
    this.#sentBytes += byteCount;
    this.#waitingPieces += 1;
    this.#waitingBytes += slab.length;
    stream.write(slab.subarray(HEADER_BYTES - RECORD_HEADER_BYTES, HEADER_BYTES + byteCount), this.#onWritten);
    this.#isHeldUp = this.#waitingPieces >= MAX_WAITING_PIECES || this.#waitingBytes >= MAX_WAITING_BYTES;
    this.#wasHeldUp ||= this.#isHeldUp;
    if (this.#isHeldUp) return false;
    if (this.#quickReads >= QUICK_READS && byteCount < GATHERED_BYTES && !this.#slab.wasFull) {
      if (this.#quickReads === QUICK_READS) this.#enlargePipe();
      setTimeout(this.#endGathering, GATHER_MS);
      return false;
    }
    this.#readableSinceMs = performance.now();
    return true;
  }

  #enlargePipe(): void {
    const { source } = this.#options;
    const fd = source instanceof net.Socket ? descriptorOf(source) : null;
    if (fd !== null) void enlargePipe(fd, PIPE_BYTES);
  }
}

/** Credit is returned once this much of it is used. */
const CREDIT_STEP_BYTES = STDIN_CREDIT_BYTES / 2;

/** The runner's side of standard input: buffers it until the command runs; drops it once the command no longer reads. */
export class StdinReceiver {
  readonly #sendCredit: (bytes: number) => void;
  #writer: LocalWriter | null = null;
  /** What came before the command ran. */
  readonly #early = new ByteQueue();
  #creditBytes = STDIN_CREDIT_BYTES;
  #takenBytes = 0;
  #receivedBytes = 0;
  #isEnded = false;
  /** Whether an earlier caller has ended it. */
  #isClosed = false;
  #isDropped = false;
  #isWithheld = false;

  /** Calls `sendCredit` with the number of further bytes that the caller may send. */
  constructor(sendCredit: (bytes: number) => void) {
    this.#sendCredit = sendCredit;
  }

  get receivedBytes(): number {
    return this.#receivedBytes;
  }

  /** What came before the command ran, as long as that has not got it. */
  get early(): readonly Buffer[] {
    return this.#early.list();
  }

  get isEnded(): boolean {
    return this.#isEnded || this.#isClosed;
  }

  /** Another caller writes from now on; returns its credit. If the input has ended, the rest is dropped. */
  reopen(): number {
    this.#isClosed ||= this.#isEnded;
    this.#isEnded = false;
    this.#creditBytes += this.#takenBytes;
    this.#takenBytes = 0;
    return this.#creditBytes;
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
    if (this.#isDropped || this.#isClosed) this.#taken(bytes.length);
    else if (this.#writer === null) this.#early.pushCopy(bytes);
    else this.#writer.write(bytes);
  }

  /** Takes EOF. Throws `protocol-error` the second time. */
  end(): void {
    if (this.#isEnded) throw new VproxyError('protocol-error', 'exec: second EOF for STDIN');
    this.#isEnded = true;
    if (!this.#isClosed) this.#writer?.end();
  }

  /** Withholds all credit until the command is connected. */
  withhold(): void {
    this.#isWithheld = true;
    this.#creditBytes = 0;
  }

  /** Connects the command, which gets the buffered input first. */
  attach(stdin: Writable): void {
    if (this.#isDropped) return;
    if (this.#isWithheld) this.#creditBytes = STDIN_CREDIT_BYTES;
    this.#writer = new LocalWriter(stdin, (bytes) => this.#taken(bytes));
    if (this.#early.byteCount > 0) this.#writer.write(this.#early.shiftAll());
    if (this.isEnded) this.#writer.end();
  }

  /** Drops buffered and later input. */
  drop(): void {
    this.#isDropped = true;
    const bytes = this.#early.byteCount;
    this.#early.clear();
    this.#taken(bytes);
  }

  #taken(bytes: number): void {
    this.#takenBytes += bytes;
    if (this.#takenBytes < CREDIT_STEP_BYTES || this.#isEnded) return;
    this.#creditBytes += this.#takenBytes;
    this.#sendCredit(this.#takenBytes);
    this.#takenBytes = 0;
  }
}
