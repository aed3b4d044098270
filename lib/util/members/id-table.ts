/** Values by number, for those that come and go thousands of times a second: replaces a Map, as `roster.ts` does a Set. */

const FIRST_SLOTS = 16;

/** Values by integers from 1 to 2^32 - 1. */
export class IdTable<T extends object> {
  /** Open addressing with linear probing; 0 marks a free slot. At most half of the slots are used. */
  #ids = new Uint32Array(FIRST_SLOTS);
  #values: (T | null)[] = new Array<T | null>(FIRST_SLOTS).fill(null);
  #size = 0;
  /**
   * Random and odd, because peers choose the numbers: two numbers share a slot no more often than by chance (Dietzfelbinger et
   * al., A reliable randomized algorithm for the closest-pair problem, 1997).
   */
  readonly #factor = (Math.random() * 2 ** 32) | 1;

  get size(): number {
    return this.#size;
  }

  /** Null if absent. */
  get(id: number): T | null {
    return this.#values[this.#find(id)] ?? null;
  }

  set(id: number, value: T): void {
    const slot = this.#find(id);
    if (this.#ids[slot] === 0) this.#size += 1;
    this.#ids[slot] = id;
    this.#values[slot] = value;
    if (2 * this.#size > this.#ids.length) this.#resize(2 * this.#ids.length);
  }

  /** Does nothing if absent. */
  delete(id: number): void {
    const ids = this.#ids;
    const mask = ids.length - 1;
    let free = this.#find(id);
    if (ids[free] !== id) return;
    // Move later entries whose home slot is at or before the freed one, so that they are still found.
    for (let slot = (free + 1) & mask; ids[slot] !== 0; slot = (slot + 1) & mask) {
      const movedId = ids[slot] as number;
      if (((slot - this.#home(movedId)) & mask) < ((slot - free) & mask)) continue;
      ids[free] = movedId;
      this.#values[free] = this.#values[slot] as T;
      free = slot;
    }
    ids[free] = 0;
    this.#values[free] = null;
    this.#size -= 1;
    if (8 * this.#size < ids.length && ids.length > FIRST_SLOTS) this.#resize(ids.length / 2);
  }

  /** The current values, in the order of their numbers. */
  list(): T[] {
    const slots = [...this.#ids.keys()].filter((slot) => this.#ids[slot] !== 0);
    slots.sort((one, other) => (this.#ids[one] as number) - (this.#ids[other] as number));
    return slots.map((slot) => this.#values[slot] as T);
  }

  #home(id: number): number {
    return Math.imul(id, this.#factor) >>> (Math.clz32(this.#ids.length) + 1);
  }

  /** The slot of a number, or the free one where it belongs. */
  #find(id: number): number {
    const ids = this.#ids;
    const mask = ids.length - 1;
    let slot = this.#home(id);
    while (ids[slot] !== id && ids[slot] !== 0) slot = (slot + 1) & mask;
    return slot;
  }

  #resize(slotCount: number): void {
    const ids = this.#ids;
    const values = this.#values;
    this.#ids = new Uint32Array(slotCount);
    this.#values = new Array<T | null>(slotCount).fill(null);
    for (const [slot, id] of ids.entries()) {
      if (id === 0) continue;
      const place = this.#find(id);
      this.#ids[place] = id;
      this.#values[place] = values[slot] as T;
    }
  }
}
