/** The bytes of every transfer: each has its own pattern, which reveals bytes of another one, or at another place. */
import { Random } from './random.js';

// A prime, so that after the loss or repetition of a power of two of bytes, the same bytes do not follow.
const BASE = new Random(1).bytes(1_000_003);

const STRIDE = 7919;

/** The bytes `[position, position + length)` of the pattern of a key. */
export function patternBytes(key: number, position: number, length: number): Buffer {
  const start = (key * STRIDE + position) % BASE.length;
  if (start + length <= BASE.length) return BASE.subarray(start, start + length);
  const pieces = [BASE.subarray(start)];
  for (let left = length - (BASE.length - start); left > 0; left -= BASE.length) pieces.push(BASE.subarray(0, left));
  return Buffer.concat(pieces);
}

/** Verifies received bytes against the pattern of a key and its length. */
export class PatternCheck {
  readonly #key: number;
  readonly #expectedBytes: number;
  receivedBytes = 0;
  /** False once a byte was wrong, or excess. */
  isPrefix = true;

  constructor(key: number, expectedBytes: number) {
    this.#key = key;
    this.#expectedBytes = expectedBytes;
  }

  get isComplete(): boolean {
    return this.isPrefix && this.receivedBytes === this.#expectedBytes;
  }

  push(chunk: Buffer): void {
    this.isPrefix &&= chunk.equals(patternBytes(this.#key, this.receivedBytes, chunk.length));
    this.receivedBytes += chunk.length;
    this.isPrefix &&= this.receivedBytes <= this.#expectedBytes;
  }
}
