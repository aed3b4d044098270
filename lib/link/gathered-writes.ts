/** Small writes of one turn of the event loop leave together, in one system call. */
import type { ByteSink } from '../codec/frame-writer.js';

/** A frame with 4 KiB is still small; copying a larger piece costs more than a system call. */
const SMALL_BYTES = 4116;

/** The most that is gathered before it is written. */
const JOINED_BYTES = 16_384;

/** Less than this counts as written: it is copied and leaves with the turn, so no drain event is needed. */
const COUNTED_BYTES = 1024;

/** A buffer for small pieces, for whichever link needs it next: rarely more than one at a time. */
let spare: Buffer | null = null;

/**
 * Stands in front of a link. A small piece waits for the end of the turn, as other sockets may have something for the same
 * channel; a larger one takes along what waits. Nothing gathered is added to a link with unwritten bytes. The order stays.
 */
export class GatheredWrites implements ByteSink {
  readonly #link: ByteSink;
  readonly #onDrain: () => void;
  #joined: Buffer | null = null;
  #joinedBytes = 0;
  #isTurnEndDue = false;
  /** Whether gathered bytes have counted as unwritten. */
  #owesDrain = false;

  /** `onDrain` is called when all is written but the link reports no drain, because it took the gathered bytes at once. */
  constructor(link: ByteSink, onDrain: () => void) {
    this.#link = link;
    this.#onDrain = onDrain;
  }

  get unwrittenBytes(): number {
    return (this.#joinedBytes < COUNTED_BYTES ? 0 : this.#joinedBytes) + this.#link.unwrittenBytes;
  }

  /** Like every sink's; a small piece is copied, so it is always the caller's again. */
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

  /** Writes what was gathered now. */
  flush(): void {
    const joined = this.#joined;
    if (joined === null) return;
    const bytes = joined.subarray(0, this.#joinedBytes);
    this.#joined = null;
    this.#joinedBytes = 0;
    if (this.#link.write(bytes)) spare = joined;
  }

  /** At the end of the turn, or when the link has drained: writes what was gathered, unless it would wait in the link. */
  readonly endTurn = (): void => {
    this.#isTurnEndDue = false;
    if (this.#link.unwrittenBytes > 0) return;
    this.flush();
    if (!this.#owesDrain || this.#link.unwrittenBytes > 0) return;
    this.#owesDrain = false;
    this.#onDrain();
  };

  /** Writes all of it in one system call. */
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
