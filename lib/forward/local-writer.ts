/** Writes what a stream brings to its local end, and says when the system has taken it. */
import type { Writable } from 'node:stream';
import { ByteQueue, copyAlone, dropView, keepView } from '../util/byte-queue.js';

/** What one write to the system is made of at most, so that credit goes back while more waits. */
const WRITE_BYTES = 131_072;

/**
 * The writing side of a local end: a socket, or the standard input of a process. It has one write of ours at a time; what comes
 * meanwhile is gathered, so that what a stream holds takes about the memory of its bytes, whatever frames they came in.
 */
export class LocalWriter {
  readonly #target: Writable;
  readonly #onTaken: (bytes: number) => void;
  readonly #waiting = new ByteQueue();
  #writtenBytes = 0;
  #takenBytes = 0;
  /** The views that the target holds. */
  #views = 0;
  #isEnding = false;

  /** `onTaken` is told the number of bytes that have left this process, or that nobody takes any more. */
  constructor(target: Writable, onTaken: (bytes: number) => void) {
    this.#target = target;
    this.#onTaken = onTaken;
    target.once('close', () => this.drop());
  }

  /** Writes bytes, which are lent for the call unless it returns true: then a view of them is kept. */
  write(bytes: Buffer): boolean {
    const target = this.#target;
    if (target.destroyed || target.writableEnded) {
      this.#onTaken(bytes.length);
      return false;
    }
    if (this.#isWriting) return this.#waiting.push(bytes);
    const isView = keepView(bytes);
    this.#write(isView ? bytes : copyAlone(bytes), isView);
    this.#tellTaken();
    return isView && target.writableLength > 0;
  }

  /** Ends the target behind what waits. */
  end(): void {
    this.#isEnding = true;
    if (this.#waiting.byteCount === 0) this.#target.end();
  }

  /** Nobody takes anything any more. */
  drop(): void {
    this.#dropViews();
    const bytes = this.#writtenBytes - this.#takenBytes + this.#waiting.byteCount;
    this.#takenBytes = this.#writtenBytes;
    this.#waiting.clear();
    if (bytes > 0) this.#onTaken(bytes);
  }

  /** Whether the target still has a write of ours. What others wrote to it, such as a preamble, is not waited for. */
  get #isWriting(): boolean {
    return this.#takenBytes < this.#writtenBytes || this.#waiting.byteCount > 0;
  }

  #write(bytes: Buffer, isView: boolean): void {
    if (isView) this.#views += 1;
    this.#writtenBytes += bytes.length;
    this.#target.write(bytes, this.#handleWritten);
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
      room -= block.bytes.length;
    }
    target.uncork();
    if (this.#isEnding && this.#waiting.byteCount === 0) target.end();
    this.#tellTaken();
  }

  /** Credit goes back for what the system has taken. */
  #tellTaken(): void {
    const waitingBytes = this.#target.writableLength;
    if (waitingBytes === 0) this.#dropViews();
    const bytes = this.#writtenBytes - waitingBytes - this.#takenBytes;
    if (bytes <= 0) return;
    this.#takenBytes += bytes;
    this.#onTaken(bytes);
  }

  #dropViews(): void {
    for (; this.#views > 0; this.#views -= 1) dropView();
  }
}
