/** The newest pieces written somewhere, as long as they may be needed again: only while something is unwritten. */

export class LastPieces {
  readonly #pieces: Buffer[] = [];
  #byteCount = 0;

  /** Appends a piece, by reference. */
  add(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#byteCount += piece.length;
  }

  /** Drops the oldest pieces, but none that contain the last `byteCount` bytes. */
  forgetAllBut(byteCount: number): void {
    for (let oldest = this.#pieces[0]; oldest !== undefined; oldest = this.#pieces[0]) {
      if (this.#byteCount - oldest.length < byteCount) return;
      this.#pieces.shift();
      this.#byteCount -= oldest.length;
    }
  }

  /** Views of the last `byteCount` bytes, in order; null if fewer are kept. */
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

/** The last `byteCount` bytes of pieces; null if fewer are kept. */
export function lastOf(pieces: LastPieces | null, byteCount: number): Buffer[] | null {
  if (byteCount === 0) return [];
  return pieces?.last(byteCount) ?? null;
}
