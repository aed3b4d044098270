/** What is small and written in one turn of the event loop leaves together, in one system call. */
import type { ByteSink } from '../codec/frame-writer.js';

/** A frame with 4 KiB is still small; to copy a larger piece costs more than a system call. */
const SMALL_BYTES = 4116;

/** What is gathered at most: then it is written, and more is gathered. */
const JOINED_BYTES = 16_384;

/** Less than this counts as written: it is copied, leaves with the turn, and nobody needs to hear of it. */
const COUNTED_BYTES = 1024;

/** What small pieces are copied into, for whichever link needs it next: it is seldom more than one at a time. */
let spare: Buffer | null = null;

/**
 * Stands before a link. A small piece waits for the end of the turn, as other sockets may have something for the same
 * channel; a larger one takes along what waits, and what the link has not written is not added to. The order stays.
 */
export class GatheredWrites implements ByteSink {
  readonly #link: ByteSink;
  readonly #onDrain: () => void;
  #joined: Buffer | null = null;
  #joinedBytes = 0;
  #isTurnEndDue = false;
  /** What was gathered has counted as unwritten. */
  #owesDrain = false;

  /** `onDrain` is called where the link does not tell that all has been written, as it took what was gathered at once. */
  constructor(link: ByteSink, onDrain: () => void) {
    this.#link = link;
    this.#onDrain = onDrain;
  }

  get unwrittenBytes(): number {
    return (this.#joinedBytes < COUNTED_BYTES ? 0 : this.#joinedBytes) + this.#link.unwrittenBytes;
  }

  /** As every sink; a small piece is copied, so it is always the caller's again. */
  write(bytes: Buffer): boolean {
    if (bytes.length <= SMALL_BYTES) {
      this.#gather(bytes);
      return true;
    }
    const joined = this.#joined;
    return joined === null ? this.#link.write(bytes) : this.#writeWith(joined, [bytes]);
  }

  writeParts(parts: readonly Buffer[]): boolean {
    const joined = this.#joined;
    return joined === null ? this.#link.writeParts(parts) : this.#writeWith(joined, parts);
  }

  /** Writes what was gathered, now. */
  flush(): void {
    const joined = this.#joined;
    if (joined === null) return;
    const bytes = joined.subarray(0, this.#joinedBytes);
    this.#joined = null;
    this.#joinedBytes = 0;
    if (this.#link.write(bytes)) spare = joined;
  }

  /** The turn is over, or the link has written all: writes what was gathered where it would not wait in the link. */
  readonly endTurn = (): void => {
    this.#isTurnEndDue = false;
    if (this.#link.unwrittenBytes > 0) return;
    this.flush();
    if (!this.#owesDrain || this.#link.unwrittenBytes > 0) return;
    this.#owesDrain = false;
    this.#onDrain();
  };

  /** All of it in one system call. */
  #writeWith(joined: Buffer, parts: readonly Buffer[]): boolean {
    const gathered = joined.subarray(0, this.#joinedBytes);
    this.#joined = null;
    this.#joinedBytes = 0;
    const isFree = this.#link.writeParts([gathered, ...parts]);
    if (isFree) spare = joined;
    return isFree;
  }

  #gather(bytes: Buffer): void {
    if (this.#joinedBytes + bytes.length > JOINED_BYTES) this.flush();
    this.#joined ??= takeSpare();
    bytes.copy(this.#joined, this.#joinedBytes);
    this.#joinedBytes += bytes.length;
    if (this.#joinedBytes >= COUNTED_BYTES) this.#owesDrain = true;
    if (this.#isTurnEndDue) return;
    this.#isTurnEndDue = true;
    setImmediate(this.endTurn);
  }
}

function takeSpare(): Buffer {
  const buffer = spare ?? Buffer.allocUnsafeSlow(JOINED_BYTES);
  spare = null;
  return buffer;
}
