/** The last bytes of a job's output, in a ring; bytes are numbered from 0. */
export class KeptOutput {
  readonly #keepBytes: number;
  #ring = Buffer.alloc(0);
  #byteCount = 0;

  constructor(keepBytes: number) {
    this.#keepBytes = keepBytes;
  }

  /** The number of bytes written so far. */
  get byteCount(): number {
    return this.#byteCount;
  }

  /** The number of the first kept byte. */
  get keptFrom(): number {
    return Math.max(0, this.#byteCount - this.#keepBytes);
  }

  /** The memory that it uses, in bytes. */
  get heldBytes(): number {
    return this.#ring.length;
  }

  free(): void {
    this.#ring = Buffer.alloc(0);
  }

  /** Copies the bytes; the oldest ones give way. */
  write(bytes: Buffer): void {
    // The system gives memory to a large buffer only where it is written.
    if (this.#byteCount === 0) this.#ring = Buffer.allocUnsafeSlow(this.#keepBytes);
    this.#byteCount += bytes.length;
    const kept = bytes.subarray(Math.max(0, bytes.length - this.#keepBytes));
    if (kept.length === 0) return;
    const count = kept.copy(this.#ring, (this.#byteCount - kept.length) % this.#keepBytes);
    kept.copy(this.#ring, 0, count);
  }

  /** The kept bytes from a kept one on, at most `maxBytes` and maybe fewer: a view, valid until the next write. */
  view(from: number, maxBytes: number): Buffer {
    const count = Math.min(maxBytes, this.#byteCount - from);
    if (count <= 0) return Buffer.alloc(0);
    const at = from % this.#keepBytes;
    return this.#ring.subarray(at, Math.min(at + count, this.#keepBytes));
  }
}
