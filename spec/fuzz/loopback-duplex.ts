/** A Duplex whose other end is a test that says, at once and in order, what comes out of it. */
import { Duplex } from 'node:stream';

/** Notes what is written to it; what is read from it is given with `receive` and `finish`. */
export class LoopbackDuplex extends Duplex {
  /** What was written. */
  readonly written: Buffer[] = [];

  /** Its readers get `chunk` now. */
  receive(chunk: Buffer): void {
    this.emit('data', chunk);
  }

  /** Its readers see the end now. */
  finish(): void {
    this.emit('end');
  }

  override _read(): void {
    // What comes is given by hand.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.written.push(chunk);
    callback();
  }
}
