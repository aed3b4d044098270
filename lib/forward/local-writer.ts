/** The writing side of a local end: what the peer sent goes out, and credit for it goes back. */
import net from 'node:net';
import type { Writable } from 'node:stream';
import { toVproxyError } from '../errors.js';
import { unwrittenBytesOf } from '../system/sockets/node-sockets.js';
import { DEFAULT_BUFFER_BYTES, enlargeBuffer } from '../system/sockets/socket-buffer.js';
import {
  ByteQueue,
  copyAlone,
  dropView,
  keepView,
  lendView,
  type QueuedBlock,
  recycleBlock,
} from '../util/bytes/byte-queue.js';
import { LastPieces, lastOf } from '../util/bytes/last-pieces.js';
import { type FilterState, type InputFilter, type Portion, Portions } from './input-filter.js';

/** The outstanding work of a {@link LocalWriter}. */
export interface WriterState {
  /** Bytes still to be written, in order; a filter has seen them. */
  readonly unwritten: readonly Buffer[];
  /** The input that they were made of; none without a filter. */
  readonly portions: readonly Portion[];
  /** Null without a filter, and once the target is closed. */
  readonly filter: FilterState | null;
  /** How many further bytes of the peer left the process, or were dropped, without being reported yet. */
  readonly takenBytes: number;
  /** Whether EOF follows them, and whether the target has finished already. */
  readonly isEnding: boolean;
  readonly isFinished: boolean;
}

/** Nothing is outstanding. */
export const NOTHING: WriterState = {
  unwritten: [],
  portions: [],
  filter: null,
  takenBytes: 0,
  isEnding: false,
  isFinished: false,
};

/** Largest batch for one write to the system, so that credit is returned while more waits. */
const WRITE_BYTES = 131_072;

/**
 * The writing side of a local end: a socket, or the standard input of a process. Only one write is outstanding at a time. Data
 * that arrives meanwhile is gathered, so a stream holds about as much memory as it has bytes, whatever frames they came in.
 * A filter bounds what it holds back and what it returns; the counters below are of its output.
 */
export class LocalWriter {
  readonly #target: Writable;
  readonly #onTaken: (bytes: number) => void;
  readonly #filter: InputFilter | null;
  readonly #portions: Portions;
  /** Whether unfiltered input waits for `begin`. */
  #isHeldBack = false;
  readonly #waiting = new ByteQueue(true);
  /** The blocks of `#waiting` that the target holds. */
  readonly #blocks: QueuedBlock[] = [];
  /** The latest writes, while the target still holds any of their bytes. */
  #written: LastPieces | null = null;
  #writtenBytes = 0;
  #takenBytes = 0;
  /** How many views the target holds. */
  #views = 0;
  #isEnding: boolean;
  /** Whether its socket buffer was enlarged, which happens when a write does not fit. */
  #isBuffered = false;

  /**
   * `onTaken` gets the number of the peer's bytes that are done with: they, or the output made of them, have left this process or
   * were dropped, or the filter holds them. If created with inherited state, call `goOn` afterwards.
   */
  constructor(
    target: Writable,
    onTaken: (bytes: number) => void,
    filter: InputFilter | null = null,
    { unwritten, portions, isEnding } = NOTHING,
  ) {
    this.#target = target;
    this.#onTaken = onTaken;
    this.#filter = filter;
    this.#portions = filter === null ? NO_PORTIONS : new Portions(portions);
    this.#waiting.restore(unwritten);
    this.#isEnding = isEnding;
    target.once('close', () => {
      this.#drop();
      filter?.close();
    });
  }

  /** Keeps input from the filter until `release`, so that `listHeld` can list it. */
  hold(): void {
    this.#isHeldBack = this.#filter !== null;
  }

  /** Has input pass the filter from now on. */
  release(): void {
    if (!this.#isHeldBack) return;
    this.#isHeldBack = false;
    const early = this.#waiting.shiftAll();
    if (early.length > 0) this.write(early);
    if (this.#isEnding) this.end();
  }

  /** Writes the peer's bytes, which are lent for the call; returns true if it keeps a view of them. */
  write(bytes: Buffer): boolean {
    const filter = this.#filter;
    if (this.#target.destroyed || this.#target.writableEnded) {
      this.#onTaken(bytes.length);
      return false;
    }
    if (this.#isHeldBack) return this.#waiting.push(bytes);
    if (filter === null || filter.isDone === true) return this.#put(bytes);
    this.#pass(bytes.length, () => filter.push(bytes));
    return false;
  }

  /** Writes what a filter makes of input. If it throws, the target is destroyed with that error. */
  #pass(inputBytes: number, make: () => Buffer): void {
    let output: Buffer = NO_BYTES;
    try {
      output = make();
    } catch (error) {
      this.#target.destroy(toVproxyError(error));
    }
    if (output.length > 0) {
      this.#portions.add(inputBytes, output.length);
      this.#put(output);
    } else if (inputBytes > 0) {
      // A message may be longer than the credit: its beginning must not hold up the rest.
      this.#onTaken(inputBytes);
    }
  }

  #put(bytes: Buffer): boolean {
    const target = this.#target;
    if (this.#isWriting) return this.#waiting.push(bytes);
    // A socket that is not connected yet, or still holds a preamble, takes nothing at once.
    const isView = target.writableLength > 0 || this.#isConnecting ? keepView(bytes) : lendView();
    const piece = isView ? bytes : copyAlone(bytes);
    this.#write(piece, isView);
    this.#tellTaken();
    if (target.writableLength === 0) return false;
    this.#keep(piece);
    return isView;
  }

  /** Ends the target after everything that waits. */
  end(): void {
    const filter = this.#filter;
    this.#isEnding = true;
    if (this.#isHeldBack) return;
    if (filter !== null && !this.#target.destroyed) this.#pass(0, () => filter.end());
    if (this.#waiting.byteCount === 0) this.#target.end();
  }

  /** Drops everything that waits: the target takes nothing more. */
  #drop(): void {
    this.#releaseWritten();
    const bytes = this.#writtenBytes - this.#takenBytes + this.#waiting.byteCount;
    this.#takenBytes = this.#writtenBytes;
    this.#waiting.clear();
    if (bytes > 0) this.#returnCredit(bytes);
  }

  /** What a successor has to write instead of this one; changes nothing. Null if it is unknown how much the target has taken. */
  get state(): WriterState | null {
    const target = this.#target;
    const isEnding = this.#isEnding;
    const isFinished = target.writableFinished;
    const heldBytes = this.#writtenBytes - this.#takenBytes;
    const portions = new Portions(this.#portions.state);
    const inputOf = (bytes: number): number => (this.#filter === null ? bytes : portions.markSent(bytes));
    if (target.destroyed) {
      return { ...NOTHING, takenBytes: inputOf(heldBytes + this.#waiting.byteCount), isEnding, isFinished };
    }
    const unwrittenBytes = target instanceof net.Socket ? unwrittenBytesOf(target) : null;
    // More than this writer wrote: some of it came from elsewhere, such as a preamble.
    if (unwrittenBytes === null || unwrittenBytes > heldBytes) return null;
    const written = lastOf(this.#written, unwrittenBytes);
    if (written === null) return null;
    const unwritten = [...written, ...this.#waiting.list()];
    const takenBytes = inputOf(heldBytes - unwrittenBytes);
    const filter = this.#filter && {
      held: this.#filter.held,
      unsentBytes: unwrittenBytes + this.#waiting.byteCount,
    };
    return { unwritten, portions: portions.state, filter, takenBytes, isEnding, isFinished };
  }

  /** Writes what the predecessor had not written. */
  goOn(): void {
    if (this.#waiting.byteCount > 0) this.#writeWaiting();
    else if (this.#isEnding && !this.#target.writableEnded) this.#target.end();
  }

  /** Bytes given to it that have not left, as views, in order; input as long as it is held back. */
  listHeld(): Buffer[] {
    const written = lastOf(this.#written, this.#writtenBytes - this.#takenBytes) ?? [];
    return [...written, ...this.#waiting.list()];
  }

  /** Whether the target still holds a write of ours. Other writes, such as a preamble, do not count. */
  get #isWriting(): boolean {
    return this.#takenBytes < this.#writtenBytes || this.#waiting.byteCount > 0;
  }

  get #isConnecting(): boolean {
    return this.#target instanceof net.Socket && this.#target.connecting;
  }

  #write(bytes: Buffer, isView: boolean): void {
    if (isView) this.#views += 1;
    this.#writtenBytes += bytes.length;
    this.#target.write(bytes, this.#handleWritten);
  }

  #keep(piece: Buffer): void {
    this.#written ??= new LastPieces();
    this.#written.add(piece);
  }

  readonly #handleWritten = (): void => {
    this.#tellTaken();
    if (this.#waiting.byteCount > 0 && this.#target.writableLength === 0) this.#writeWaiting();
  };

  #writeWaiting(): void {
    const target = this.#target;
    target.cork();
    for (let room = WRITE_BYTES; room > 0; ) {
      const block = this.#waiting.shift();
      if (block === null) break;
      this.#write(block.bytes, block.isView);
      this.#keep(block.bytes);
      this.#blocks.push(block);
      room -= block.bytes.length;
    }
    target.uncork();
    if (this.#isEnding && this.#waiting.byteCount === 0) target.end();
    this.#tellTaken();
  }

  /** Returns credit for what the system has taken. */
  #tellTaken(): void {
    const waitingBytes = this.#target.writableLength;
    if (waitingBytes === 0) {
      for (const block of this.#blocks) recycleBlock(block);
      this.#releaseWritten();
    } else if (!this.#isBuffered) this.#buffer();
    const bytes = this.#writtenBytes - waitingBytes - this.#takenBytes;
    if (bytes <= 0) return;
    this.#takenBytes += bytes;
    this.#returnCredit(bytes);
  }

  /** Returns credit for bytes that have left, or were dropped. */
  #returnCredit(bytes: number): void {
    const filter = this.#isHeldBack ? null : this.#filter;
    filter?.sent(bytes);
    const inputBytes = filter === null ? bytes : this.#portions.markSent(bytes);
    if (inputBytes > 0) this.#onTaken(inputBytes);
  }

  /** Enlarges the socket buffer. Before the connect, waiting bytes do not mean that the buffer is full. */
  #buffer(): void {
    const target = this.#target;
    if (!(target instanceof net.Socket) || target.connecting) return;
    this.#isBuffered = true;
    void enlargeBuffer(target, DEFAULT_BUFFER_BYTES);
  }

  #releaseWritten(): void {
    for (; this.#views > 0; this.#views -= 1) dropView();
    this.#written = null;
    this.#blocks.length = 0;
  }
}

const NO_BYTES = Buffer.alloc(0);

/** Of writers without a filter, which ask nothing of it. */
const NO_PORTIONS = new Portions();
