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

/** Nor while so many pieces of it do, however short: the pipe puts together what the command writes next. */
const MAX_WAITING_PIECES = 16;

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
  #waitingPieces = 0;
  #isHeldUp = false;
  #isEnded = false;

  readonly #onWritten = (): void => {
    this.#waitingPieces -= 1;
    this.#resume();
  };

  constructor(options: CommandOutputOptions) {
    this.#options = options;
    const { source, stream } = options;
    stream.on('drain', () => this.#resume());
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
    return this.#isHeldUp;
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
    const { source } = this.#options;
    while (!this.#isEnded) {
      this.#isHeldUp = this.#isFull();
      if (this.#isHeldUp) return;
      const bytes = source.read() as Buffer | null;
      if (bytes === null) return;
      this.#send(bytes);
    }
  }

  #resume(): void {
    if (this.#isHeldUp) this.#pump();
  }

  #isFull(): boolean {
    const { writableNeedDrain, writableLength } = this.#options.stream;
    return this.#waitingPieces >= MAX_WAITING_PIECES || (writableNeedDrain && writableLength >= MAX_WAITING_BYTES);
  }

  #send(bytes: Buffer): void {
    const { stream, fd } = this.#options;
    if (stream.destroyed) return;
    const kind = fd === 1 ? EXEC_KIND.STDOUT : EXEC_KIND.STDERR;
    this.#sentBytes += bytes.length;
    for (let at = 0; at < bytes.length; at += MAX_PIECE_BYTES) {
      const piece = bytes.subarray(at, at + MAX_PIECE_BYTES);
      const header = encodeRecordHeader(kind, piece.length);
      this.#waitingPieces += 1;
      if (piece.length <= COPY_BYTES) stream.write(Buffer.concat([header, piece]), this.#onWritten);
      else {
        stream.cork();
        stream.write(header);
        stream.write(piece, this.#onWritten);
        stream.uncork();
      }
    }
  }
}
