/** An input of a fuzz target: bytes that decide how the rest is used, then the rest. */

const MAX_SIZES = 7;

/** Reads an input from its start. Where nothing is left, every decision is the one for a zero. */
export class FuzzInput {
  readonly #bytes: Buffer;
  #at = 0;

  /** The input is not changed. */
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** A number from 0 to 255. */
  byte(): number {
    const value = this.#bytes[this.#at] ?? 0;
    this.#at += 1;
    return value;
  }

  pick<T>(choices: readonly [T, ...T[]]): T {
    return choices[this.byte() % choices.length] ?? choices[0];
  }

  /** Sizes for `splitBySizes`: how many there are, then each, less one. */
  sizes(): number[] {
    const count = 1 + (this.byte() % MAX_SIZES);
    return Array.from({ length: count }, () => 1 + this.byte());
  }

  /** All that is left, copied. */
  rest(): Buffer {
    return Buffer.from(this.#bytes.subarray(Math.min(this.#at, this.#bytes.length)));
  }

  /** All that is left, as UTF-8 text; what is not UTF-8 becomes U+FFFD. */
  text(): string {
    return this.rest().toString('utf8');
  }
}

/** Cuts bytes into chunks of the given sizes, repeatedly. Every chunk is a copy of its own. */
export function splitBySizes(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    chunks.push(Buffer.from(bytes.subarray(at, at + size)));
    at += size;
  }
  return chunks;
}

/** What a target compares: the bytes in one chunk, in chunks of the given sizes, and one by one. */
export function everySplit(bytes: Buffer, sizes: readonly number[]): readonly [Buffer[], Buffer[], Buffer[]] {
  return [splitBySizes(bytes, [Math.max(1, bytes.length)]), splitBySizes(bytes, sizes), splitBySizes(bytes, [1])];
}
