/** What TLS reads its records from and writes them to: the channel, as the stream that TLS of Node wants. */
import { Duplex } from 'node:stream';
import type { ByteSink } from '../codec/frame-writer.js';
import { releaseMemory } from '../util/bytes/release-memory.js';

export class TlsChannel extends Duplex {
  readonly #channel: ByteSink;
  /** What the channel has not written yet, and whom to tell then. */
  #unwritten: readonly Buffer[] = [];
  #onWritten: (() => void) | null = null;

  constructor(channel: ByteSink) {
    super();
    this.#channel = channel;
  }

  /** Whole records or parts of them came. They are lent for the time of the call. */
  receive(records: Buffer): void {
    // TLS takes what it is given before `push` returns, once it has begun to read and as long as nothing waits.
    const isTakenAtOnce = this.readableDidRead && this.readableFlowing === true && this.readableLength === 0;
    this.push(isTakenAtOnce ? records : Buffer.from(records));
  }

  /** The channel has written all that it was given. */
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

  /** TLS makes each chunk anew, and forgets it. */
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
