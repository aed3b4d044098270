/** The files that the other side has already, or the beginnings of them, as it has told. */
import { type KeptCount, keptBytes } from './kept-list.js';
import type { StagedFile } from './messages.js';

/** Of each file: its bytes as a double, and the SHA-256 of them. */
const FACT_BYTES = 40;
const BYTES_BYTES = 8;

/** There may be 200,000 of them: a name each, and one buffer for all else. */
export class StagedList {
  readonly #count: KeptCount;
  readonly #indexes = new Map<string, number>();
  #facts = Buffer.allocUnsafeSlow(0);

  constructor(count: KeptCount) {
    this.#count = count;
  }

  /** Adds a file; one that is told of twice is what was told last. Throws what {@link KeptCount.add} does. */
  add([name, bytes, sha256]: StagedFile): void {
    let index = this.#indexes.get(name);
    if (index === undefined) {
      this.#count.add(keptBytes(name));
      index = this.#indexes.size;
      this.#indexes.set(name, index);
      this.#makeRoom(index + 1);
    }
    this.#facts.writeDoubleBE(bytes, FACT_BYTES * index);
    this.#facts.write(sha256, FACT_BYTES * index + BYTES_BYTES, 'hex');
  }

  /** How much is there of a file, and the SHA-256 of that; null: nothing. */
  find(name: string): { readonly bytes: number; readonly sha256: Buffer } | null {
    const index = this.#indexes.get(name);
    if (index === undefined) return null;
    const facts = this.#facts.subarray(FACT_BYTES * index, FACT_BYTES * (index + 1));
    return { bytes: facts.readDoubleBE(0), sha256: facts.subarray(BYTES_BYTES) };
  }

  #makeRoom(count: number): void {
    if (FACT_BYTES * count <= this.#facts.length) return;
    const facts = Buffer.allocUnsafeSlow(Math.max(FACT_BYTES * count, 2 * this.#facts.length));
    this.#facts.copy(facts);
    this.#facts = facts;
  }
}
