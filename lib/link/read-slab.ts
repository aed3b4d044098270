/** The memory that a link reads into: one piece, used again and again until its reader keeps a part of it. */

/** The size of a page in a virtio-serial queue; also the grain in which a slab is given away. */
export const PAGE_BYTES = 4096;

/** The number of reads in a row that a page would have held, after which a page is all that is held: as of an idle link. */
const SMALL_READS = 4;

/**
 * A link that is new first reads the zeros that an opening begins with, 32 pages: that many full reads of it make it no
 * busy one. Hundreds of links may be opened at the same moment, and memory that was used once is seldom given back.
 */
const FIRST_READS = 40;

/** Slabs that were let go whole, for the next link that becomes busy: a few, as few links do so at the same moment. */
const SPARES: Buffer[] = [];
const MAX_SPARES = 4;

/** Memory for reads: a page while little comes, its whole size while much does. The room stays the same until `took` is called. */
export class ReadSlab {
  readonly #largestBytes: number;
  #whole: Buffer = Buffer.allocUnsafeSlow(PAGE_BYTES);
  #pages: Buffer[] | null = null;
  #start = 0;
  #room: Buffer = this.#whole;
  #smallReads = 0;
  /** The number of full reads that still make the slab a large one. */
  #patience = FIRST_READS;
  /** Whether a part of `whole` was given away. */
  #isShared = false;

  /** `size` is a multiple of `PAGE_BYTES`. */
  constructor(size: number) {
    this.#largestBytes = size;
  }

  /** Where the next read may put its bytes. */
  get room(): Buffer {
    return this.#room;
  }

  /** The room from `offset` (a multiple of `PAGE_BYTES`) on, as views of a page each. */
  pages(offset: number): Buffer[] {
    this.#pages ??= Array.from({ length: this.#whole.length / PAGE_BYTES }, (_, index) =>
      this.#whole.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES),
    );
    const first = (this.#start + offset) / PAGE_BYTES;
    return first === 0 ? this.#pages : this.#pages.slice(first);
  }

  /** The first `byteCount` bytes of the room were read. Kept ones are given away: they are not written to any more. */
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
    // Small pieces that are kept should not cost a slab each, and reads should not become small.
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
