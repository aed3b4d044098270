/** The way out of a terminal whose command does not answer any more, as ssh has it. */

const TILDE = 0x7e;
const DOT = 0x2e;

/** Looks for `~.` at the beginning of a line of what is typed; `~~` is one tilde. */
export class EscapeKeys {
  #isAtStart = true;
  #hasTilde = false;

  /** What of these bytes is for the command; null where they end the call. */
  read(bytes: Buffer): Buffer | null {
    const kept: number[] = [];
    for (const byte of bytes) {
      if (this.#hasTilde && byte === DOT) return null;
      if (this.#isAtStart && !this.#hasTilde && byte === TILDE) {
        this.#hasTilde = true;
        continue;
      }
      if (this.#hasTilde && byte !== TILDE) kept.push(TILDE);
      this.#hasTilde = false;
      kept.push(byte);
      this.#isAtStart = byte === 0x0d || byte === 0x0a;
    }
    return Buffer.from(kept);
  }
}
