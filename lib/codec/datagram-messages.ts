/** Messages within the bytes of a stream, each preceded by its length (R-DGRAM-3): the content of a flow of datagrams. */
import { protocolError } from '../errors.js';
import type { Budget } from '../util/bounds.js';
import { copyAlone } from '../util/bytes/byte-queue.js';

/** The largest message, in bytes: the maximum of a UDP datagram over IPv4. */
export const MAX_DATAGRAM_BYTES = 65_507;

/** What a waiting message takes beyond its bytes: empty ones must not be free. */
const MESSAGE_COST_BYTES = 256;

/** A message's share of the limits below, in bytes. */
export const costOf = ({ length }: Uint8Array): number => length + MESSAGE_COST_BYTES;

/** What may wait in one direction of a flow: a burst of 11,000 lines of a log, or 0.4 s at 80 Mbit/s. */
export const WAITING_BYTES = 4 * 2 ** 20;

/** The same for all flows of a session, or of a target, together. */
export const ALL_WAITING_BYTES = 16 * 2 ** 20;

/** The length before each message, a u16. */
export const MESSAGE_HEADER_BYTES = 2;

/** Messages handed on per piece at most: each costs more than its bytes, and a peer could fill a DATA frame with empty ones. */
const MAX_AT_ONCE = 256;

interface MessageReaderOptions {
  /** Bounds the memory of incomplete messages; shared with other readers. */
  readonly budget: Budget;
  /** A complete message, in a buffer of its own. */
  readonly onMessage: (message: Buffer) => void;
  /** This many messages were skipped: the budget had no room for one, or too many came at once. */
  readonly onSkipped: (count: number) => void;
}

/** Cuts the bytes of one direction of a flow into messages. An incomplete one is kept, and costs its full length. */
export class MessageReader {
  readonly #options: MessageReaderOptions;
  /** The first byte of a length, if only that has come of a message. */
  #highByte: number | null = null;
  /** The received part of a message, with room for the rest; null if it is skipped, or between messages. */
  #partial: Buffer | null = null;
  #partialBytes = 0;
  /** Bytes of the current message that have not come yet. */
  #missingBytes = 0;
  /** Messages that may still be handed on from the current piece. */
  #leftAtOnce = 0;
  #isClosed = false;

  constructor(options: MessageReaderOptions) {
    this.#options = options;
  }

  get isMidMessage(): boolean {
    return this.#highByte !== null || this.#missingBytes > 0;
  }

  /** Takes bytes, lent for the duration of the call. Throws `protocol-error` for an invalid length. */
  push(bytes: Buffer): void {
    this.#leftAtOnce = MAX_AT_ONCE;
    for (let at = 0; at < bytes.length && !this.#isClosed; ) {
      at = this.#missingBytes > 0 ? this.#goOn(bytes, at) : this.#begin(bytes, at);
    }
  }

  /** Drops an incomplete message and stops reading, even within `push`. */
  close(): void {
    this.#isClosed = true;
    this.#dropPartial();
    this.#missingBytes = 0;
    this.#highByte = null;
  }

  /** Begins the message at `at`. Returns where reading stopped. */
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
      throw protocolError(`datagram too long: ${length} bytes (max ${MAX_DATAGRAM_BYTES})`);
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

  /** Skips the message that ends at `at`, and all complete ones after it: a piece may consist of empty ones. */
  #skip(bytes: Buffer, at: number): number {
    let count = 1;
    for (;;) {
      const end = at + MESSAGE_HEADER_BYTES + (bytes[at] ?? 0) * 256 + (bytes[at + 1] ?? 0);
      // An incomplete message, or one with an invalid length, is left to `#begin`.
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
