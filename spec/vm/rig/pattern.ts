/**
 * Position-dependent bytes: a gap, a repetition or a foreign byte in the received data is detected at once. The host and the
 * guest compute the same ones.
 */

const BLOCK_BYTES = 65_536;
const MARK_EVERY = 4_096;

/** The first `bytes` bytes of the pattern, in pieces that the caller may keep. */
export function* patternPieces(bytes: number): Generator<Buffer> {
  const source = new PatternSource();
  for (let offset = 0; offset < bytes; ) {
    const piece = Buffer.from(source.bytesAt(offset).subarray(0, bytes - offset));
    offset += piece.length;
    yield piece;
  }
}

/** Compares what is received with the pattern, from its beginning. */
export class PatternChecker {
  /** The number of received bytes. */
  bytes = 0;
  /** The offset of the first wrong piece, or null while all are correct. */
  wrongAt: number | null = null;
  readonly #source = new PatternSource();

  push(chunk: Buffer): void {
    for (let offset = 0; offset < chunk.length; ) {
      const expected = this.#source.bytesAt(this.bytes);
      const piece = chunk.subarray(offset, offset + expected.length);
      if (!piece.equals(expected.subarray(0, piece.length))) this.wrongAt ??= this.bytes;
      this.bytes += piece.length;
      offset += piece.length;
    }
  }
}

class PatternSource {
  readonly #block = makeNoise();
  #number = -1;

  /** Returns the bytes from `offset` to the end of its block: at most 64 KiB, in a buffer that the next call overwrites. */
  bytesAt(offset: number): Buffer {
    const number = Math.floor(offset / BLOCK_BYTES);
    if (number !== this.#number) {
      this.#number = number;
      for (let at = 0; at < BLOCK_BYTES; at += MARK_EVERY) this.#block.writeUInt32BE(number, at);
    }
    return this.#block.subarray(offset - number * BLOCK_BYTES);
  }
}

/** Numbers of a small generator (xorshift), the same everywhere. */
function makeNoise(): Buffer {
  const block = Buffer.alloc(BLOCK_BYTES);
  let state = 0x9e3779b9;
  for (let at = 0; at < BLOCK_BYTES; at += 4) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    block.writeInt32LE(state, at);
  }
  return block;
}
