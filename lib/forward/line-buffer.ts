/** Cuts what a stream brings into whole lines, with a bound on their length. */

/** Longer lines are cut into pieces of this length, each with a newline of its own. */
export const MAX_LINE_BYTES = 65_536;

const NEWLINE = 10;
const FIRST_BYTES = 256;

/** Whole lines out of the pieces of one stream. */
export class LineBuffer {
  /** The beginning of a line whose end has not come. */
  #held = Buffer.alloc(0);
  #heldBytes = 0;
  #wasCut = false;

  /** How many bytes of a line without an end it keeps. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The whole lines that `bytes` completes, copied, each with its newline; null where there are none. */
  add(bytes: Buffer): Buffer | null {
    const lines: Buffer[] = [];
    let offset = 0;
    // The end of a line that was cut just before it: the newline is there already.
    if (this.#wasCut && bytes[0] === NEWLINE) offset = 1;
    if (bytes.length > 0) this.#wasCut = false;
    while (offset < bytes.length) {
      // Where the line would be as long as a line may be; every newline up to there ends one that is short enough.
      const limit = offset + MAX_LINE_BYTES - this.#heldBytes;
      const found = bytes.lastIndexOf(NEWLINE, limit);
      if (found >= offset) {
        lines.push(this.#take(), bytes.subarray(offset, found + 1));
        offset = found + 1;
      } else if (limit <= bytes.length) {
        lines.push(this.#take(), bytes.subarray(offset, limit), NEWLINE_BYTES);
        offset = limit;
        if (offset === bytes.length) this.#wasCut = true;
      } else {
        this.#hold(bytes.subarray(offset));
        break;
      }
    }
    return lines.length === 0 ? null : Buffer.concat(lines);
  }

  /** The last line, which has no newline, with one; null where there is nothing. */
  end(): Buffer | null {
    return this.#heldBytes === 0 ? null : Buffer.concat([this.#take(), NEWLINE_BYTES]);
  }

  #take(): Buffer {
    const held = this.#held.subarray(0, this.#heldBytes);
    this.#held = Buffer.alloc(0);
    this.#heldBytes = 0;
    return held;
  }

  #hold(bytes: Buffer): void {
    const total = this.#heldBytes + bytes.length;
    if (total > this.#held.length) {
      const grown = Buffer.allocUnsafeSlow(Math.max(FIRST_BYTES, 2 ** Math.ceil(Math.log2(total))));
      this.#held.copy(grown, 0, 0, this.#heldBytes);
      this.#held = grown;
    }
    bytes.copy(this.#held, this.#heldBytes);
    this.#heldBytes = total;
  }
}

const NEWLINE_BYTES = Buffer.from('\n');
