/** Memory to read a socket into, with room for a header in front, sized by what the socket has to give. */

/** An idle socket keeps this much, as 10,000 of them cost memory; a bulk one grows to the largest read. */
const SMALL_BYTES = 512;
const LARGE_BYTES = 131_072;
/** From the one to the other in four reads that were full. */
const GROWTH = 4;

/** After so many reads in a row that would have fitted a small slab, the large one is let go. */
const SMALL_READS = 32;

/**
 * One slab is being read into; while another one waits to be sent it is kept aside and used again afterwards. So a
 * socket costs two slabs at most, and nothing is allocated while the channel keeps up.
 */
export class HeadroomSlab {
  readonly #headroomBytes: number;
  #sizeBytes = SMALL_BYTES;
  #slab: Buffer | null = null;
  #taken: Buffer | null = null;
  #spare: Buffer | null = null;
  #view: Buffer | null = null;
  #smallReads = 0;

  constructor(headroomBytes: number) {
    this.#headroomBytes = headroomBytes;
  }

  /** Where the next read may put up to `maxBytes` (0: no bound): behind the headroom. */
  room(maxBytes: number): Buffer {
    const bytes = maxBytes > 0 ? Math.min(this.#sizeBytes, maxBytes) : this.#sizeBytes;
    const slabBytes = this.#headroomBytes + this.#sizeBytes;
    if (this.#slab === null) {
      this.#slab = this.#spare?.length === slabBytes ? this.#spare : Buffer.allocUnsafeSlow(slabBytes);
      this.#spare = null;
      this.#view = null;
    }
    if (this.#view?.length !== bytes) {
      this.#view = this.#slab.subarray(this.#headroomBytes, this.#headroomBytes + bytes);
    }
    return this.#view;
  }

  /** Takes the slab in whose room `byteCount` bytes were read; `returned` tells what became of it. */
  take(byteCount: number): Buffer {
    const slab = this.#slab as Buffer;
    this.#adapt(byteCount);
    this.#taken = slab;
    this.#slab = null;
    return slab;
  }

  /** The slab taken last is done with: free to be used again, or the channel's for good. */
  returned(isFree: boolean): void {
    const taken = this.#taken;
    this.#taken = null;
    if (!isFree || taken === null || taken.length !== this.#headroomBytes + this.#sizeBytes) return;
    if (this.#slab === null) this.#slab = taken;
    else this.#spare = taken;
  }

  #adapt(byteCount: number): void {
    const readBytes = this.#view?.length ?? 0;
    if (byteCount === readBytes && readBytes === this.#sizeBytes) {
      this.#smallReads = 0;
      this.#sizeBytes = Math.min(GROWTH * this.#sizeBytes, LARGE_BYTES);
    } else if (this.#sizeBytes > SMALL_BYTES) {
      this.#smallReads = byteCount <= SMALL_BYTES ? this.#smallReads + 1 : 0;
      if (this.#smallReads < SMALL_READS) return;
      this.#smallReads = 0;
      this.#sizeBytes = SMALL_BYTES;
    }
  }
}
