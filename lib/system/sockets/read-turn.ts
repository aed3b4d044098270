/** How much of a socket is read in one turn of the event loop, before all others have theirs. */

/**
 * The system is asked again and again while a read fills its buffer, up to 32 times: 4 MiB of a busy socket. This much is
 * still few turns for one that is alone.
 */
const TURN_BYTES = 524_288;

/** Counts the reads of one socket. One that reads no further returns false from the callback of `onread`. */
export class ReadTurn {
  readonly #readOn: () => void;
  #bytes = 0;

  /** `readOn` is called in the turn behind one that was over. */
  constructor(readOn: () => void) {
    this.#readOn = readOn;
  }

  /**
   * Counts a read. True where no more is to be read in this turn: where it `isFull`, so that another read would follow,
   * and either that was enough or somebody `isHurried`, whom one read is enough to wait for.
   */
  isOver(byteCount: number, isFull: boolean, isHurried: boolean): boolean {
    this.#bytes = isFull ? this.#bytes + byteCount : 0;
    if (!isFull || (!isHurried && this.#bytes < TURN_BYTES)) return false;
    this.#bytes = 0;
    setImmediate(this.#readOn);
    return true;
  }
}
