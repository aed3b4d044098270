/** One line at the start of a socket, read before the bytes behind it go to whoever the line was for. */
import type { OnRead } from './buffered-socket.js';

/**
 * Reads a socket up to its first newline, and everything behind it for somebody else, without losing or copying more
 * than what came along with the line. The socket pauses at the end of the line until `handOver`.
 */
export class FirstLine {
  /** What the socket is read with, from its start to its end. */
  readonly onread: OnRead = {
    buffer: () => this.#room(),
    callback: (byteCount, buffer) => this.#take(byteCount, buffer),
  };
  readonly #onLine: (line: string | null) => boolean;
  #buffer: Buffer;
  #byteCount = 0;
  #isRead = false;
  /** Bytes behind the line that came before somebody was there to take them. */
  #rest: Buffer = Buffer.alloc(0);
  #next: OnRead | null = null;
  #isOwnRoom = true;

  /**
   * `onLine` is called once: with the line (latin1, without its newline), or with null when `maxBytes` held none. It
   * returns whether the socket is read on at once, as `handOver` says; false pauses it.
   */
  constructor(maxBytes: number, onLine: (line: string | null) => boolean) {
    this.#buffer = Buffer.alloc(maxBytes);
    this.#onLine = onLine;
  }

  /** What came behind the line up to now; the caller's from now on, for where `next` shall not get it. */
  takeRest(): Buffer {
    const rest = this.#rest;
    this.#rest = Buffer.alloc(0);
    return rest;
  }

  /** Gives `next` what came behind the line, and all that follows. False when it wants to be resumed later. */
  handOver(next: OnRead): boolean {
    this.#next = next;
    return this.#deliver(this.takeRest());
  }

  #room(): Uint8Array {
    this.#isOwnRoom = this.#next === null;
    if (this.#next !== null) return this.#next.buffer();
    if (!this.#isRead) return this.#buffer.subarray(this.#byteCount);
    // A read may be under way already; its bytes are given on when somebody is there for them.
    this.#buffer = Buffer.alloc(this.#buffer.length);
    return this.#buffer;
  }

  #take(byteCount: number, buffer: Uint8Array): boolean {
    if (this.#isRead) {
      if (this.#next !== null && !this.#isOwnRoom) return this.#next.callback(byteCount, buffer);
      const bytes = Buffer.from(buffer.subarray(0, byteCount));
      if (this.#next !== null) return this.#deliver(bytes);
      this.#rest = Buffer.concat([this.#rest, bytes]);
      return false;
    }
    this.#byteCount += byteCount;
    const end = this.#buffer.subarray(0, this.#byteCount).indexOf('\n');
    if (end === -1 && this.#byteCount < this.#buffer.length) return true;
    this.#isRead = true;
    if (end === -1) return this.#onLine(null);
    this.#rest = this.#buffer.subarray(end + 1, this.#byteCount);
    return this.#onLine(this.#buffer.toString('latin1', 0, end));
  }

  #deliver(bytes: Buffer): boolean {
    let isWanted = true;
    for (let offset = 0; offset < bytes.length; ) {
      const room = this.#next?.buffer() ?? new Uint8Array(bytes.length);
      const count = Math.min(room.length, bytes.length - offset);
      room.set(bytes.subarray(offset, offset + count));
      offset += count;
      isWanted = this.#next?.callback(count, room) ?? true;
    }
    return isWanted;
  }
}
