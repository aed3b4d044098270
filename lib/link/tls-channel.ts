/** The channel, as the stream from which Node's TLS reads its records and to which it writes them. */
import { Duplex } from 'node:stream';
import type { ByteSink } from '../codec/frame-writer.js';
import { releaseMemory } from '../util/bytes/release-memory.js';

export class TlsChannel extends Duplex {
  readonly #channel: ByteSink;
  /** Bytes that the channel has not written yet, and the callback for when it has. */
  #unwritten: readonly Buffer[] = [];
  #onWritten: (() => void) | null = null;

  constructor(channel: ByteSink) {
    super();
    this.#channel = channel;
  }

  /** Takes complete or partial records, lent for the duration of the call. */
  receive(records: Buffer): void {
    // TLS consumes its input before `push` returns, once it has begun to read and as long as nothing waits.
    const isTakenAtOnce = this.readableDidRead && this.readableFlowing === true && this.readableLength === 0;
    this.push(isTakenAtOnce ? records : Buffer.from(records));
  }

  /** The channel has written everything it was given. */
  handleDrain(): void {
    const [written, onWritten] = [this.#unwritten, this.#onWritten];
    this.#unwritten = [];
    this.#onWritten = null;
    for (const chunk of written) releaseMemory(chunk);
    onWritten?.();
  }

  override _read(): void {
    // Records come when the channel has them; reading never pauses.
  }

  /** TLS allocates each chunk, and forgets it. */
  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.#settle([chunk], this.#channel.write(chunk), callback);
  }

  override _writev(entries: readonly { readonly chunk: Buffer }[], callback: () => void): void {
    const chunks = entries.map(({ chunk }) => chunk);
    this.#settle(chunks, this.#channel.writeParts(chunks), callback);
  }

  #settle(chunks: readonly Buffer[], isWritten: boolean, callback: () => void): void {
    if (isWritten) {
      for (const chunk of chunks) releaseMemory(chunk);
      callback();
    } else {
      this.#unwritten = chunks;
      this.#onWritten = callback;
    }
  }
}
