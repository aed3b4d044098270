/** Limits how much of a socket is read in one turn of the event loop, before the others get theirs. */

/**
 * While reads fill the buffer, libuv reads again, up to 32 times: 4 MiB from a busy socket. This limit still needs few turns for
 * a socket that is alone.
 */
const TURN_BYTES = 524_288;

/** Counts the reads of one socket. To stop reading, return false from the `onread` callback. */
export class ReadTurn {
  readonly #readOn: () => void;
  #bytes = 0;

  /** Calls `readOn` in the turn after one that was over. */
  constructor(readOn: () => void) {
    this.#readOn = readOn;
  }

  /**
   * Counts a read. True if this turn must read no more: the read `isFull`, so that another would follow, and either the limit is
   * reached or someone `isHurried` and waits for at most one read.
   */
  isOver(byteCount: number, isFull: boolean, isHurried: boolean): boolean {
    this.#bytes = isFull ? this.#bytes + byteCount : 0;
    if (!isFull || (!isHurried && this.#bytes < TURN_BYTES)) return false;
    this.#bytes = 0;
    setImmediate(this.#readOn);
    return true;
  }
}
