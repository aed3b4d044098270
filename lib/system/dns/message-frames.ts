/** DNS messages on a stream, each preceded by its length in two bytes (RFC 1035, section 4.2.2). */
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

/** Reassembles messages from the chunks of a stream. It holds pushed bytes until they are taken. */
export class MessageFrames {
  readonly #maxBytes: number;
  readonly #queue = new ByteQueue();
  readonly #length = Buffer.alloc(2);
  /** The message being filled; null while its length is being read. */
  #message: Buffer | null = null;
  #filledBytes = 0;

  /** Refuses messages longer than `maxBytes`. */
  constructor(maxBytes = MAX_MESSAGE_BYTES) {
    this.#maxBytes = maxBytes;
  }

  /** Copies the bytes. */
  push(bytes: Buffer): void {
    this.#queue.pushCopy(bytes);
  }

  /** The next complete message, or null. Throws `protocol-error` if it is too long. */
  next(): Buffer | null {
    if (this.#message === null) {
      if (!this.#fill(this.#length)) return null;
      const byteCount = this.#length.readUInt16BE(0);
      if (byteCount > this.#maxBytes) throw malformed(`too long: ${byteCount} bytes (max ${this.#maxBytes})`);
      this.#message = Buffer.allocUnsafeSlow(byteCount);
      this.#filledBytes = 0;
    }
    const message = this.#message;
    if (!this.#fill(message)) return null;
    this.#message = null;
    this.#filledBytes = 0;
    return message;
  }

  /** Fills `target` from the queue. False if there are not enough bytes yet. */
  #fill(target: Buffer): boolean {
    while (this.#filledBytes < target.length) {
      const block = this.#queue.shift(target.length - this.#filledBytes);
      if (block === null) return false;
      this.#filledBytes += block.bytes.copy(target, this.#filledBytes);
    }
    return true;
  }
}
