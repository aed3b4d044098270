/** Frames that are written again and again, with only their sequence numbers new: a flood that costs its peer next to nothing. */
import { headerCheck, nextSequence } from '../../lib/codec/header.js';
import type { FrameMaker } from './frame-maker.js';

/** A batch of equal frames. */
export class FrameStamp {
  readonly #batch: Buffer;
  readonly #frameBytes: number;

  /** `frame` is any frame of the kind; the batch has about `batchBytes` of them. */
  constructor(frame: Buffer, batchBytes: number) {
    this.#frameBytes = frame.length;
    const count = Math.max(1, Math.floor(batchBytes / frame.length));
    this.#batch = Buffer.concat(Array.from({ length: count }, () => frame));
  }

  /** How many frames the batch has. */
  get count(): number {
    return this.#batch.length / this.#frameBytes;
  }

  /** The next frames of `peer`, at most `maxCount`. They are valid until the next call. */
  next(peer: FrameMaker, maxCount: number = this.count): Buffer {
    const end = Math.min(maxCount, this.count) * this.#frameBytes;
    for (let at = 0; at < end; at += this.#frameBytes) {
      this.#batch.writeUInt16BE(headerCheck(this.#batch, at, peer.sequence), at + 2);
      peer.sequence = nextSequence(peer.sequence);
    }
    return this.#batch.subarray(0, end);
  }
}
