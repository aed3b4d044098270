/** The memory that a local socket is read into, in which what was read becomes a frame. */
import { TRAILER_BYTES } from '../codec/header.js';
import { HEADER_BYTES } from '../codec/limits.js';
import { SLAB_BYTES, takeSlab } from '../util/bytes/slabs.js';

/** An idle socket keeps a small slab, since 10,000 of them cost memory; for bulk data it grows to the largest read. */
const SMALL_BYTES = 512;
/** The largest read, in bytes. */
export const LARGE_BYTES = SLAB_BYTES - HEADER_BYTES - TRAILER_BYTES;
/** Growth factor: four full reads lead from small to large. */
const GROWTH = 4;

/** The large slab is released after this many reads in a row that would have fitted a small one. */
const SMALL_READS = 32;

const newSlab = (bytes: number): Buffer => (bytes === SLAB_BYTES ? takeSlab() : Buffer.allocUnsafeSlow(bytes));

/**
 * Memory to read a socket into, with room for a header in front and a trailer behind, sized by how much the socket delivers.
 *
 * One slab is being read into; another that waits to be sent is kept and reused afterwards. So a socket costs at most two
 * slabs, and nothing is allocated while the channel keeps up.
 */
export class FrameSlab {
  readonly #largestBytes: number;
  #sizeBytes = SMALL_BYTES;
  #slab: Buffer | null = null;
  #taken: Buffer | null = null;
  #spare: Buffer | null = null;
  #view: Buffer | null = null;
  #smallReads = 0;
  /** Whether the last read filled its room. */
  wasFull = false;

  constructor(largestBytes = LARGE_BYTES) {
    this.#largestBytes = largestBytes;
  }

  /** The room for the next read, behind the header: up to `maxBytes` (0: no limit). */
  room(maxBytes: number): Buffer {
    const bytes = maxBytes > 0 ? Math.min(this.#sizeBytes, maxBytes) : this.#sizeBytes;
    const slabBytes = this.#slabBytes;
    if (this.#slab === null) {
      this.#slab = this.#spare?.length === slabBytes ? this.#spare : newSlab(slabBytes);
      this.#spare = null;
      this.#view = null;
    }
    if (this.#view?.length !== bytes) this.#view = this.#slab.subarray(HEADER_BYTES, HEADER_BYTES + bytes);
    return this.#view;
  }

  /** Takes the slab in whose room `byteCount` bytes were read. Call `returned` when it has been sent. */
  take(byteCount: number): Buffer {
    const slab = this.#slab as Buffer;
    this.wasFull = byteCount === this.#view?.length;
    this.#adapt(byteCount);
    this.#taken = slab;
    this.#slab = null;
    return slab;
  }

  /** The slab taken last was sent: it is free again, or the channel keeps it. Returns a large one that the channel keeps. */
  returned(isFree: boolean): Buffer | null {
    const taken = this.#taken;
    this.#taken = null;
    if (taken === null) return null;
    if (!isFree) return taken.length === SLAB_BYTES ? taken : null;
    if (taken.length !== this.#slabBytes) return null;
    if (this.#slab === null) this.#slab = taken;
    else this.#spare = taken;
    return null;
  }

  get #slabBytes(): number {
    return HEADER_BYTES + this.#sizeBytes + TRAILER_BYTES;
  }

  #adapt(byteCount: number): void {
    if (this.wasFull && byteCount === this.#sizeBytes) {
      this.#smallReads = 0;
      this.#sizeBytes = Math.min(GROWTH * this.#sizeBytes, this.#largestBytes);
    } else if (this.#sizeBytes > SMALL_BYTES) {
      this.#smallReads = byteCount <= SMALL_BYTES ? this.#smallReads + 1 : 0;
      if (this.#smallReads < SMALL_READS) return;
      this.#smallReads = 0;
      this.#sizeBytes = SMALL_BYTES;
    }
  }
}
