/** The memory that a link reads into: one piece, reused until its reader keeps a part of it. */

/** The size of a page in a virtio-serial queue; also the granularity in which a slab is given away. */
export const PAGE_BYTES = 4096;

/** After this many reads in a row that fit into a page, the slab shrinks to one page: the link is nearly idle. */
const SMALL_READS = 4;

/**
 * A new link first reads the zeros that a handshake begins with, 32 pages: that many full reads do not make it
 * busy. Hundreds of links may be opened at once, and memory that was used once is seldom given back.
 */
const FIRST_READS = 40;

/** Slabs released whole, for the next link that becomes busy: a few, as few links do so at once. */
const SPARES: Buffer[] = [];
const MAX_SPARES = 4;

/** Memory for reads: a page while little comes, full size under load. The room stays the same until `took` is called. */
export class ReadSlab {
  readonly #largestBytes: number;
  #whole: Buffer = Buffer.allocUnsafeSlow(PAGE_BYTES);
  #pages: Buffer[] | null = null;
  #start = 0;
  #room: Buffer = this.#whole;
  #smallReads = 0;
  /** The number of full reads left until the slab grows. */
  #patience = FIRST_READS;
  /** Whether a part of the slab was given away. */
  #isShared = false;

  /** `size` is a multiple of `PAGE_BYTES`. */
  constructor(size: number) {
    this.#largestBytes = size;
  }

  /** The memory for the next read. */
  get room(): Buffer {
    return this.#room;
  }

  /** The room from `offset` (a multiple of `PAGE_BYTES`) on, as views of one page each. */
  pages(offset: number): Buffer[] {
    this.#pages ??= Array.from({ length: this.#whole.length / PAGE_BYTES }, (_, index) =>
      this.#whole.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES),
    );
    const first = (this.#start + offset) / PAGE_BYTES;
    return first === 0 ? this.#pages : this.#pages.slice(first);
  }

  /** Reports that the first `byteCount` bytes of the room were read. Kept bytes are given away and no longer written to. */
  took(byteCount: number, isKept: boolean): void {
    const wasFull = byteCount === this.#room.length;
    if (isKept) {
      this.#start += Math.ceil(byteCount / PAGE_BYTES) * PAGE_BYTES;
      this.#isShared = true;
    }
    this.#smallReads = byteCount < PAGE_BYTES ? this.#smallReads + 1 : 0;
    if (wasFull) this.#patience -= 1;
    const size = this.#whole.length;
    if (size < this.#largestBytes && this.#patience <= 0) this.#renew(this.#largestBytes);
    else if (size > PAGE_BYTES && this.#smallReads >= SMALL_READS) this.#renew(PAGE_BYTES);
    // Kept small pieces must not cost a slab each, and reads must not become small.
    else if (this.#start > size / 2) this.#renew(size);
    else if (isKept) this.#room = this.#whole.subarray(this.#start);
  }

  #renew(size: number): void {
    if (!this.#isShared && this.#whole.length > PAGE_BYTES && SPARES.length < MAX_SPARES) SPARES.push(this.#whole);
    const spare = SPARES.findIndex(({ length }) => length === size);
    this.#whole = spare === -1 ? Buffer.allocUnsafeSlow(size) : (SPARES.splice(spare, 1)[0] as Buffer);
    this.#room = this.#whole;
    this.#pages = null;
    this.#start = 0;
    this.#isShared = false;
    this.#smallReads = 0;
    this.#patience = 1;
  }
}
