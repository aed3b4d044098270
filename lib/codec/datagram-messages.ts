/** Messages in the bytes of a stream, each with its length before it (R-DGRAM-3): what a flow of datagrams is made of. */
import { VproxyError } from '../errors.js';
import type { Budget } from '../util/bounds.js';
import { copyAlone } from '../util/bytes/byte-queue.js';

/** The largest message, in bytes: what a datagram of UDP over IPv4 can hold. */
export const MAX_DATAGRAM_BYTES = 65_507;

/** The length before each message, a u16. */
export const MESSAGE_HEADER_BYTES = 2;

/** Writes the length of a message in front of it. */
export function writeMessageLength(buffer: Buffer, offset: number, bytes: number): void {
  buffer.writeUInt16BE(bytes, offset);
}

/** The messages of one piece that are handed on at most: each costs more than its bytes, and a peer could have a DATA frame consist of empty ones. */
const MAX_AT_ONCE = 256;

interface MessageReaderOptions {
  /** What messages that have not come whole may take, together with others. */
  readonly budget: Budget;
  /** A whole message, in a buffer of its own. */
  readonly onMessage: (message: Buffer) => void;
  /** Messages were passed over, so many: the budget had no room while one came, or too many came at once. */
  readonly onSkipped: (count: number) => void;
}

/** Cuts the bytes of one direction of a flow into messages. One that has come in part is kept, at the cost of its whole length. */
export class MessageReader {
  readonly #options: MessageReaderOptions;
  /** The first byte of a length, where that is all that came of a message. */
  #highByte: number | null = null;
  /** What came of a message, with room for the rest of it; null where it is passed over, or there is none. */
  #partial: Buffer | null = null;
  #partialBytes = 0;
  /** What is missing of a message that has begun. */
  #missingBytes = 0;
  /** What may still be handed on of the piece that is read. */
  #leftAtOnce = 0;
  #isClosed = false;

  constructor(options: MessageReaderOptions) {
    this.#options = options;
  }

  /** Whether a part of a message has come. */
  get isMidMessage(): boolean {
    return this.#highByte !== null || this.#missingBytes > 0;
  }

  /** Takes bytes, which are lent for the call. Throws `protocol-error` for a length that no message has. */
  push(bytes: Buffer): void {
    this.#leftAtOnce = MAX_AT_ONCE;
    for (let at = 0; at < bytes.length && !this.#isClosed; ) {
      at = this.#missingBytes > 0 ? this.#goOn(bytes, at) : this.#begin(bytes, at);
    }
  }

  /** Forgets what came of a message, and reads no more, also within a call of `push`. */
  close(): void {
    this.#isClosed = true;
    this.#dropPartial();
    this.#missingBytes = 0;
    this.#highByte = null;
  }

  /** A message begins at `at`. Gives where what was read ends. */
  #begin(bytes: Buffer, at: number): number {
    const high = this.#highByte ?? (bytes[at] as number);
    const lowAt = this.#highByte === null ? at + 1 : at;
    const low = bytes[lowAt];
    if (low === undefined) {
      this.#highByte = high;
      return bytes.length;
    }
    this.#highByte = null;
    const length = high * 256 + low;
    if (length > MAX_DATAGRAM_BYTES)
      throw new VproxyError('protocol-error', `a message of ${length} bytes in a flow of datagrams`);
    const start = lowAt + 1;
    const end = start + length;
    if (end <= bytes.length) {
      if (this.#leftAtOnce === 0) return this.#skip(bytes, end);
      this.#handOn(copyAlone(bytes.subarray(start, end)));
      return end;
    }
    this.#missingBytes = length;
    if (this.#options.budget.reserve(length)) this.#partial = Buffer.allocUnsafeSlow(length);
    this.#partialBytes = 0;
    return start;
  }

  /** Passes over the message that ends at `at`, and all whole ones behind it: a piece may consist of empty ones. */
  #skip(bytes: Buffer, at: number): number {
    let count = 1;
    for (;;) {
      const end = at + MESSAGE_HEADER_BYTES + (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
      // Where the next one is not whole, or has a length that no message has, `#begin` says so.
      if (end > bytes.length || end - at > MESSAGE_HEADER_BYTES + MAX_DATAGRAM_BYTES) break;
      at = end;
      count += 1;
    }
    this.#options.onSkipped(count);
    return at;
  }

  #goOn(bytes: Buffer, at: number): number {
    const end = Math.min(bytes.length, at + this.#missingBytes);
    this.#partial?.set(bytes.subarray(at, end), this.#partialBytes);
    this.#partialBytes += end - at;
    this.#missingBytes -= end - at;
    if (this.#missingBytes === 0) {
      const message = this.#partial;
      this.#dropPartial();
      if (message === null) this.#options.onSkipped(1);
      else this.#handOn(message);
    }
    return end;
  }

  #handOn(message: Buffer): void {
    this.#leftAtOnce -= 1;
    this.#options.onMessage(message);
  }

  #dropPartial(): void {
    if (this.#partial !== null) this.#options.budget.release(this.#partial.length);
    this.#partial = null;
  }
}
