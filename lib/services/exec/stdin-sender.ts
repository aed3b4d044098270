/** The caller's side of the input of a command. It loads nothing of the runner's. */
import { type Duplex, Writable } from 'node:stream';
import { encodeRecordHeader } from '../../util/bytes/records.js';
import { EXEC_KIND, encodeEof, STDIN_CREDIT_BYTES } from './exec-messages.js';

type Callback = (error?: Error | null) => void;

/** The longest STDIN record, in bytes. */
const PIECE_BYTES = 65_536;

/** The caller's side of standard input: sends data within the credit, then EOF. Never fails: unwanted input is dropped. */
export class StdinSender extends Writable {
  readonly #stream: Duplex;
  #creditBytes: number;
  #isClosed = false;
  #isSending = false;
  /** The rest of the current write, and its callback. */
  #chunk: Buffer = Buffer.alloc(0);
  #onTaken: Callback | null = null;

  /** Writes to `stream`, which the caller still owns. */
  constructor(stream: Duplex, creditBytes = STDIN_CREDIT_BYTES) {
    super({ highWaterMark: PIECE_BYTES });
    this.#creditBytes = creditBytes;
    this.#stream = stream;
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
    this.#stream.cork();
    this.#stream.write(encodeRecordHeader(EXEC_KIND.STDIN, count));
    this.#stream.write(this.#chunk.subarray(0, count), () => {
      this.#isSending = false;
      this.#pump();
    });
    this.#stream.uncork();
    this.#chunk = this.#chunk.subarray(count);
  }

  #taken(): void {
    const onTaken = this.#onTaken;
    this.#onTaken = null;
    onTaken?.();
  }
}
