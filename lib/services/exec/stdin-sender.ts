/** The caller's side of the input of a command. It loads nothing of the runner's. */
import { type Duplex, Writable } from 'node:stream';
import { encodeRecordHeader } from '../../util/bytes/records.js';
import { EXEC_KIND, encodeEof, STDIN_CREDIT_BYTES } from './exec-messages.js';

type Callback = (error?: Error | null) => void;

/** The longest STDIN record, in bytes. */
const PIECE_BYTES = 65_536;

/** The caller's side of standard input: sends data within the credit, then EOF. Never fails: unwanted input is dropped. */
export class StdinSender extends Writable {
  #stream: Duplex | null;
  #creditBytes: number;
  #isClosed = false;
  #isSending = false;
  #hasEnded = false;
  #hasSent = false;
  /** The rest of the current write, and its callback. */
  #chunk: Buffer = Buffer.alloc(0);
  #onTaken: Callback | null = null;

  /** Writes to `stream`, which the caller still owns; to none, as long as it is null. */
  constructor(stream: Duplex | null, creditBytes = STDIN_CREDIT_BYTES) {
    super({ highWaterMark: PIECE_BYTES });
    this.#creditBytes = creditBytes;
    this.#stream = stream;
  }

  /** Whether it has sent anything to its last stream, which may be lost with that. */
  get hasSent(): boolean {
    return this.#hasSent;
  }

  /** Writes to another stream from now on, or to none, without credit. What was written before is not sent again, except EOF. */
  move(stream: Duplex | null): void {
    this.#stream = stream;
    if (stream !== null) this.#hasSent = this.#hasEnded;
    this.#creditBytes = 0;
    this.#isSending = false;
    if (this.#hasEnded) stream?.write(encodeEof(0));
  }

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
    this.#hasEnded = true;
    if (!this.#isClosed && this.#stream?.writable === true) {
      this.#hasSent = true;
      this.#stream.write(encodeEof(0));
    }
    callback();
  }

  #pump(): void {
    const stream = this.#stream;
    if (this.#onTaken === null || this.#isSending) return;
    if (this.#isClosed || this.#chunk.length === 0) {
      this.#taken();
      return;
    }
    const count = Math.min(this.#chunk.length, this.#creditBytes, PIECE_BYTES);
    if (count === 0 || stream?.writable !== true) return;
    this.#creditBytes -= count;
    this.#isSending = true;
    this.#hasSent = true;
    stream.cork();
    stream.write(encodeRecordHeader(EXEC_KIND.STDIN, count));
    stream.write(this.#chunk.subarray(0, count), () => {
      if (stream !== this.#stream) return;
      this.#isSending = false;
      this.#pump();
    });
    stream.uncork();
    this.#chunk = this.#chunk.subarray(count);
  }

  #taken(): void {
    const onTaken = this.#onTaken;
    this.#onTaken = null;
    onTaken?.();
  }
}
