/** The memory that a link reads into: one piece, used again and again until its reader keeps a part of it. */

/** The size of a page in a virtio-serial queue; also the grain in which a slab is given away. */
export const PAGE_BYTES = 4096;

/** Memory for reads. The room stays the same until `keep` is called. */
export class ReadSlab {
  readonly #size: number;
  #whole: Buffer;
  #pages: Buffer[] | null = null;
  #start = 0;
  #room: Buffer;

  /** `size` is a multiple of `PAGE_BYTES`. */
  constructor(size: number) {
    this.#size = size;
    this.#whole = Buffer.allocUnsafeSlow(size);
    this.#room = this.#whole;
  }

  /** Where the next read may put its bytes. */
  get room(): Buffer {
    return this.#room;
  }

  /** The room from `offset` (a multiple of `PAGE_BYTES`) on, as views of a page each. */
  pages(offset: number): Buffer[] {
    this.#pages ??= Array.from({ length: this.#size / PAGE_BYTES }, (_, index) =>
      this.#whole.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES),
    );
    const first = (this.#start + offset) / PAGE_BYTES;
    return first === 0 ? this.#pages : this.#pages.slice(first);
  }

  /** Gives the first `byteCount` bytes of the room away: they are not written to any more. */
  keep(byteCount: number): void {
    this.#start += Math.ceil(byteCount / PAGE_BYTES) * PAGE_BYTES;
    // Small pieces that are kept should not cost a slab each, and reads should not become small.
    if (this.#start > this.#size / 2) {
      this.#whole = Buffer.allocUnsafeSlow(this.#size);
      this.#pages = null;
      this.#start = 0;
    }
    this.#room = this.#start === 0 ? this.#whole : this.#whole.subarray(this.#start);
  }
}
