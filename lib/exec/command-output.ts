/** One output of a command on its way to the caller: records of its bytes, and its EOF. */
import type { Readable, Writable } from 'node:stream';
import { encodeRecordHeader } from '../util/records.js';
import { EXEC_KIND, encodeEof } from './messages.js';

/** A record has so many bytes at most. */
const MAX_PIECE_BYTES = 65_536;

/** A payload up to here is copied behind its header: that is cheaper than a second write. */
const COPY_BYTES = 4096;

/** While so much waits in the stream, the output is not read. */
const MAX_WAITING_BYTES = 131_072;

export interface CommandOutputOptions {
  readonly source: Readable;
  /** 1 or 2: standard output or error. */
  readonly fd: 1 | 2;
  readonly stream: Writable;
  /** EOF is written. */
  readonly onEnd: () => void;
}

export class CommandOutput {
  readonly #options: CommandOutputOptions;
  #sentBytes = 0;
  #isWaiting = false;
  #isEnded = false;

  constructor(options: CommandOutputOptions) {
    this.#options = options;
    const { source } = options;
    // Not `data`: Node makes the output of a process that has exited flow, paused or not.
    source.on('readable', () => this.#pump());
    source.once('end', () => this.end());
    // Where it fails, nothing more comes, and there is no `end`.
    source.once('close', () => this.end());
  }

  /** All that was sent so far. */
  get sentBytes(): number {
    return this.#sentBytes;
  }

  /** Whether the caller does not take what is there. */
  get isHeldUp(): boolean {
    return this.#isWaiting;
  }

  /** Sends EOF, whatever may still come. */
  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    const { stream, fd, onEnd } = this.#options;
    if (!stream.destroyed) stream.write(encodeEof(fd));
    onEnd();
  }

  #pump(): void {
    const { source, stream } = this.#options;
    while (!this.#isWaiting && !this.#isEnded) {
      if (stream.writableNeedDrain && stream.writableLength >= MAX_WAITING_BYTES) {
        this.#isWaiting = true;
        stream.once('drain', () => {
          this.#isWaiting = false;
          this.#pump();
        });
        return;
      }
      const bytes = source.read() as Buffer | null;
      if (bytes === null) return;
      this.#send(bytes);
    }
  }

  #send(bytes: Buffer): void {
    const { stream, fd } = this.#options;
    if (stream.destroyed) return;
    const kind = fd === 1 ? EXEC_KIND.STDOUT : EXEC_KIND.STDERR;
    this.#sentBytes += bytes.length;
    for (let at = 0; at < bytes.length; at += MAX_PIECE_BYTES) {
      const piece = bytes.subarray(at, at + MAX_PIECE_BYTES);
      const header = encodeRecordHeader(kind, piece.length);
      if (piece.length <= COPY_BYTES) stream.write(Buffer.concat([header, piece]));
      else {
        stream.cork();
        stream.write(header);
        stream.write(piece);
        stream.uncork();
      }
    }
  }
}
