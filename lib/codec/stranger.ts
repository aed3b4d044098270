/** Something at the other end of a channel that is no vproxy of this version, from the bytes skipped in search of a HELLO. */
import { escapeText } from '../util/escape.js';
import { formatCount } from '../util/units.js';

/** How much of the beginning is looked at, and shown. */
const SAMPLE_BYTES = 64;
const SHOWN_CHARACTERS = 40;

/** Fewer bytes than this could be the rest of anything. */
const LEAST_BYTES = 4;

/** Printable text: a greeting, a prompt, the status line of HTTP. Frames have other bytes among their first 16. */
const TEXT = /^[\t\n\r\u001b\u0020-\u007e]*$/;

const NOTHING = Buffer.alloc(0);

export class Stranger {
  #byteCount = 0;
  #beginning: Buffer = NOTHING;
  #sentMagic = false;

  /** Takes bytes that belong to no HELLO. Zeros before the first others are those of a flush. */
  note(skipped: Buffer): void {
    const from = this.#byteCount > 0 ? 0 : firstNonZero(skipped);
    this.#byteCount += skipped.length - from;
    const room = SAMPLE_BYTES - this.#beginning.length;
    if (room > 0 && from < skipped.length)
      this.#beginning = Buffer.concat([this.#beginning, skipped.subarray(from, from + room)]);
  }

  /** Takes note of a magic whose HELLO cannot be read. */
  noteMagic(): void {
    this.#sentMagic = true;
  }

  /** What it seems to be, as a clause; null if nothing came, or if it may be the rest of an earlier session. */
  describe(): string | null {
    if (this.#sentMagic) return 'it sent a HELLO that this version cannot read: is it another version of vproxy?';
    const text = this.#beginning.toString('latin1');
    if (text.length < LEAST_BYTES || !TEXT.test(text)) return null;
    const [line = ''] = text.trim().split(/[\r\n]/, 1);
    const shown = escapeText(line.slice(0, SHOWN_CHARACTERS));
    return `${formatCount(this.#byteCount, 'byte')} came that are not vproxy's, beginning with "${shown}"`;
  }
}

function firstNonZero(bytes: Buffer): number {
  let at = 0;
  while (at < bytes.length && bytes[at] === 0) at += 1;
  return at;
}
