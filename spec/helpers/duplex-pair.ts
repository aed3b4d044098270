/**
 * Two streams in memory, joined: what is written to one is read from the other. Node has such a pair itself, in which
 * `destroy` of one end means something else in each version.
 */
import { Duplex } from 'node:stream';

class Half extends Duplex {
  other!: Half;
  /** The writer of this half's last bytes goes on when they are read. */
  #onRead: (() => void) | null = null;

  override _read(): void {
    const onRead = this.#onRead;
    this.#onRead = null;
    onRead?.();
  }

  /** Hands the very buffer on: no copy is made. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.other.#onRead = callback;
    this.other.push(chunk);
  }

  override _final(callback: () => void): void {
    this.other.push(null);
    callback();
  }

  override _destroy(error: Error | null, callback: (error: Error | null) => void): void {
    // As a socket's peer: what was written arrives, then comes the end.
    if (!this.writableFinished) setImmediate(() => this.other.push(null));
    callback(error);
  }
}

/** A pair; either end may be closed on its own. */
export function duplexPair(): [Duplex, Duplex] {
  const [left, right] = [new Half({ allowHalfOpen: true }), new Half({ allowHalfOpen: true })];
  left.other = right;
  right.other = left;
  return [left, right];
}
