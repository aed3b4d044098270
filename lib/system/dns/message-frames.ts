/** Messages of DNS on a stream: each has its length before it, in two bytes (RFC 1035, section 4.2.2). */
import { ByteQueue } from '../../util/bytes/byte-queue.js';
import { MAX_MESSAGE_BYTES } from './dns-message.js';
import { malformed } from './domain-names.js';

/** A message with its length. */
export function frameMessage(message: Buffer): Buffer {
  const frame = Buffer.allocUnsafeSlow(2 + message.length);
  frame.writeUInt16BE(message.length);
  message.copy(frame, 2);
  return frame;
}

/** Puts the pieces of a stream together. It holds what was pushed until it is taken. */
export class MessageFrames {
  readonly #maxBytes: number;
  readonly #queue = new ByteQueue();
  readonly #length = Buffer.alloc(2);
  /** The message whose length has come; null: its length is being read. */
  #message: Buffer | null = null;
  #filledBytes = 0;

  /** Messages of more than `maxBytes` are refused. */
  constructor(maxBytes = MAX_MESSAGE_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** The bytes are copied. */
  push(bytes: Buffer): void {
    this.#queue.pushCopy(bytes);
  }

  /** The next message that is complete; null: there is none. Throws `protocol-error` for one that is too long. */
  next(): Buffer | null {
    if (this.#message === null) {
      if (!this.#fill(this.#length)) return null;
      const byteCount = this.#length.readUInt16BE(0);
      if (byteCount > this.#maxBytes) throw malformed(`${byteCount} bytes, of ${this.#maxBytes} that it may have`);
      this.#message = Buffer.allocUnsafeSlow(byteCount);
      this.#filledBytes = 0;
    }
    const message = this.#message;
    if (!this.#fill(message)) return null;
    this.#message = null;
    this.#filledBytes = 0;
    return message;
  }

  /** Fills `target` with what is held. False where that does not suffice. */
  #fill(target: Buffer): boolean {
    while (this.#filledBytes < target.length) {
      const block = this.#queue.shift(target.length - this.#filledBytes);
      if (block === null) return false;
      this.#filledBytes += block.bytes.copy(target, this.#filledBytes);
    }
    return true;
  }
}
