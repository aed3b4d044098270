/** The newest pieces of what is written somewhere, as long as they may be asked for again. A writer has them only while something is unwritten. */

export class LastPieces {
  readonly #pieces: Buffer[] = [];
  #byteCount = 0;

  /** Keeps a reference to a piece, which comes behind the others. */
  add(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#byteCount += piece.length;
  }

  /** Forgets the oldest pieces, all but those that the last `byteCount` bytes are in. */
  forgetAllBut(byteCount: number): void {
    for (let oldest = this.#pieces[0]; oldest !== undefined; oldest = this.#pieces[0]) {
      if (this.#byteCount - oldest.length < byteCount) return;
      this.#pieces.shift();
      this.#byteCount -= oldest.length;
    }
  }

  /** Views of the last `byteCount` bytes, in order; null where fewer are kept. */
  last(byteCount: number): Buffer[] | null {
    let excess = this.#byteCount - byteCount;
    if (excess < 0) return null;
    const views: Buffer[] = [];
    for (const piece of this.#pieces) {
      if (excess < piece.length) views.push(piece.subarray(excess));
      excess = Math.max(0, excess - piece.length);
    }
    return views;
  }
}

/** The last `byteCount` bytes of pieces; null where fewer are kept. */
export function lastOf(pieces: LastPieces | null, byteCount: number): Buffer[] | null {
  if (byteCount === 0) return [];
  return pieces?.last(byteCount) ?? null;
}
