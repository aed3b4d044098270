/** Reads the output of TLS into its own memory, and hands it on once for all records that one read of the channel brought. */
import type { TLSSocket } from 'node:tls';
import { type OnRead, readBuffered } from '../system/sockets/node-sockets.js';

/** The most bytes in a record. There is always room for one: TLS never has to split it. */
const RECORD_BYTES = 16_384;

/** A little more than a frame of the usual largest size. */
const SLAB_BYTES = 147_456;

/** After this many records in a row of at most SMALL_BYTES, the slab is too large. */
const SMALL_RECORDS = 4;
const SMALL_BYTES = 4096;

export class TlsReader {
  readonly #onBytes: (bytes: Buffer) => boolean;
  #slab: Buffer = Buffer.allocUnsafeSlow(RECORD_BYTES);
  /** The bytes that came but were not handed on. TLS puts the next record at `#end`. */
  #start = 0;
  #end = 0;
  /** Whether a part of the slab was kept. */
  #isShared = false;
  #isGathering = false;
  #smallRecords = 0;

  /** `onBytes` is lent the bytes; if it returns true it keeps them. It may be called from within this constructor. */
  constructor(socket: TLSSocket, onBytes: (bytes: Buffer) => boolean) {
    this.#onBytes = onBytes;
    const onread: OnRead = {
      buffer: () => this.#room(),
      callback: (byteCount) => {
        this.#took(byteCount);
        return true;
      },
    };
    readBuffered(socket, onread);
  }

  /** Hands on what comes until `deliver` in one go, as far as it fits. */
  gather(): void {
    this.#isGathering = true;
  }

  /** Hands on what was gathered. */
  deliver(): void {
    this.#isGathering = false;
    this.#handOn();
  }

  #handOn(): void {
    if (this.#start === this.#end) return;
    const bytes = this.#slab.subarray(this.#start, this.#end);
    this.#start = this.#end;
    if (this.#onBytes(bytes)) this.#isShared = true;
  }

  #took(byteCount: number): void {
    this.#end += byteCount;
    this.#smallRecords = byteCount <= SMALL_BYTES ? this.#smallRecords + 1 : 0;
    if (!this.#isGathering) this.#handOn();
  }

  /** The only place where the destination of the next record may change. */
  #room(): Buffer {
    const isTooLarge = this.#slab.length > RECORD_BYTES && this.#smallRecords >= SMALL_RECORDS;
    if (isTooLarge || this.#slab.length - this.#end < RECORD_BYTES) {
      const wasFull = this.#end === this.#slab.length;
      this.#handOn();
      const size = isTooLarge ? RECORD_BYTES : wasFull ? SLAB_BYTES : this.#slab.length;
      if (this.#isShared || size !== this.#slab.length) this.#slab = Buffer.allocUnsafeSlow(size);
      this.#isShared = false;
      this.#start = 0;
      this.#end = 0;
    }
    return this.#slab.subarray(this.#end);
  }
}
