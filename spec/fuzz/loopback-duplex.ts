/** A Duplex whose other end is a test, which decides, synchronously and in order, what is read from it. */
import { Duplex } from 'node:stream';

/** Records what is written to it; `receive` and `finish` supply what is read from it. */
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
    // What is read is supplied by `receive`.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.written.push(chunk);
    callback();
  }
}
