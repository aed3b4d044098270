/** Lets the other sockets of the event loop have their turn while one of them has always more to read. */

/**
 * libuv reads a socket again, up to 32 times in a row, as long as each read fills the whole buffer: megabytes of one
 * socket before the next one, with one byte, is looked at.
 */
export class ReadTurns {
  readonly #maxBytes: number;
  readonly #resume: () => void;
  #bytes = 0;

  /** A turn has about `maxBytes`; `resume` begins the next one, in the next turn of the event loop. */
  constructor(maxBytes: number, resume: () => void) {
    this.#maxBytes = maxBytes;
    this.#resume = resume;
  }

  /** Counts a read. False when the turn is over: the socket has to be paused, and `resume` follows. */
  goesOn(byteCount: number, wasFull: boolean): boolean {
    if (!wasFull) {
      this.#bytes = 0;
      return true;
    }
    this.#bytes += byteCount;
    if (this.#bytes < this.#maxBytes) return true;
    this.#bytes = 0;
    setImmediate(this.#resume);
    return false;
  }
}
