/** Standard input of a command, as its caller sends it: never more than the runner has room for. */
import { type Duplex, Writable } from 'node:stream';
import { encodeRecord } from '../util/records.js';
import { EXEC_KIND, encodeEof, STDIN_CREDIT_BYTES } from './messages.js';

type Callback = (error?: Error | null) => void;

/** The longest STDIN record, in bytes. */
const PIECE_BYTES = 65_536;

/** Sends what is written as STDIN records, within the credit, and its end as EOF. It never fails: what nobody takes is dropped. */
export class CommandInput extends Writable {
  readonly #stream: Duplex;
  #creditBytes = STDIN_CREDIT_BYTES;
  #isClosed = false;
  #isSending = false;
  /** What is left of a write, and whom to tell when nothing is. */
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
