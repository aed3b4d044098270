/** One terminal, as it is kept in a file: lines that are written in their order, beside what the terminal is used for. */
import { close, ftruncate, write } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { promisify } from 'node:util';
import type { Clock } from '../../util/clock.js';
import { deferred } from '../../util/concurrency.js';
import { describeError } from '../../util/escape.js';
import type { TerminalSize } from '../exec-messages.js';
import { CAST_CODE, type CastHeader, formatCastEvent, formatCastHeader, formatCastSize } from './asciicast.js';

export interface TerminalRecordingOptions {
  readonly path: string;
  /** Of the file, which is empty; the recording closes it. */
  readonly fd: number;
  readonly clock: Clock;
  readonly header: CastHeader;
  /** Whether what is typed is kept, too. */
  readonly hasInput: boolean;
  /** The most that it may have, in bytes. */
  readonly maxBytes: number;
  /** Why no more may be written to its folder, or null: asked for every {@link LOOK_BYTES}. */
  readonly whyFull: () => string | null;
  /** It ends here, though the terminal goes on, for this reason. */
  readonly onCut: (why: string) => void;
}

/** What waits for a disk at most, in bytes: beyond it the recording ends, as the terminal waits for nothing. */
const MAX_WAITING_BYTES = 4_194_304;

/** How much is written from one look at the folder to the next, in bytes. */
const LOOK_BYTES = 4_194_304;

const writeTo = promisify(write);
const truncate = promisify(ftruncate);
const closeFile = promisify(close);

/** A recording. All that is told to it is kept in that order, each event with its time, until `end`. */
export class TerminalRecording {
  readonly path: string;
  /** Resolved when everything is written and the file is closed; never rejected. */
  readonly closed: Promise<void>;
  readonly #options: TerminalRecordingOptions;
  readonly #closed = deferred();
  readonly #startedAtMs: number;
  // A character may be cut in two between any two of their chunks.
  readonly #output = new StringDecoder('utf8');
  readonly #input = new StringDecoder('utf8');
  /** Those that nobody writes yet. */
  #lines: string[] = [];
  #waitingBytes = 0;
  #bytes = 0;
  #lookAtBytes = LOOK_BYTES;
  #state: 'open' | 'ended' | 'cut' = 'open';
  #isWriting = false;

  constructor(options: TerminalRecordingOptions) {
    this.#options = options;
    this.path = options.path;
    this.closed = this.#closed.promise;
    this.#startedAtMs = options.clock.now();
    this.#push(formatCastHeader(options.header));
  }

  /** Bytes that were shown. They are not kept beyond the call. */
  output(bytes: Buffer): void {
    this.#add(CAST_CODE.OUTPUT, () => this.#output.write(bytes));
  }

  /** Bytes that were typed. */
  input(bytes: Buffer): void {
    if (this.#options.hasInput) this.#add(CAST_CODE.INPUT, () => this.#input.write(bytes));
  }

  /** The terminal has another size. */
  resize(size: TerminalSize): void {
    this.#add(CAST_CODE.RESIZE, () => formatCastSize(size));
  }

  /** The terminal is closed. The file is, too, when all of it is written. Harmless the second time. */
  end(): void {
    this.#add(CAST_CODE.OUTPUT, () => this.#output.end());
    this.#add(CAST_CODE.INPUT, () => this.#input.end());
    if (this.#state !== 'open') return;
    this.#state = 'ended';
    void this.#write();
  }

  #add(code: string, text: () => string): void {
    if (this.#state !== 'open') return;
    const data = text();
    if (data === '') return;
    const line = this.#line(code, data);
    const why = this.#whyFull(Buffer.byteLength(line));
    if (why === null) this.#push(line);
    else this.#cut(why);
  }

  #whyFull(bytes: number): string | null {
    const { maxBytes, whyFull } = this.#options;
    if (this.#bytes + bytes > maxBytes) return `it may have ${maxBytes} bytes`;
    if (this.#waitingBytes > MAX_WAITING_BYTES) return 'the disk is too slow';
    if (this.#bytes < this.#lookAtBytes) return null;
    this.#lookAtBytes = this.#bytes + LOOK_BYTES;
    return whyFull();
  }

  /** The terminal goes on without it. The marker, which no bound leaves out, is for who plays it. */
  #cut(why: string): void {
    this.#state = 'cut';
    this.#push(this.#line(CAST_CODE.MARKER, `the recording ends here: ${why}`));
    this.#options.onCut(why);
  }

  #line(code: string, data: string): string {
    return formatCastEvent({ timeS: (this.#options.clock.now() - this.#startedAtMs) / 1000, code, data });
  }

  #push(line: string): void {
    const bytes = Buffer.byteLength(line);
    this.#lines.push(line);
    this.#bytes += bytes;
    this.#waitingBytes += bytes;
    void this.#write();
  }

  /** Writes what there is, all lines of a moment at once, and closes the file behind the last one. Never rejects. */
  async #write(): Promise<void> {
    if (this.#isWriting) return;
    this.#isWriting = true;
    // What else the same turn brings goes along.
    await Promise.resolve();
    while (this.#lines.length > 0) await this.#writeLines();
    this.#isWriting = this.#state !== 'open';
    if (!this.#isWriting) return;
    await closeFile(this.#options.fd).catch(() => undefined);
    this.#closed.resolve();
  }

  async #writeLines(): Promise<void> {
    const { fd } = this.#options;
    const bytes = Buffer.from(this.#lines.join(''));
    const wholeBytes = this.#bytes - this.#waitingBytes;
    this.#lines = [];
    try {
      for (let at = 0; at < bytes.length; at += (await writeTo(fd, bytes, at)).bytesWritten);
      this.#waitingBytes -= bytes.length;
    } catch (error) {
      // What there is of them by now would be half a line.
      await truncate(fd, wholeBytes).catch(() => undefined);
      this.#lines = [];
      this.#bytes = wholeBytes;
      this.#waitingBytes = 0;
      if (this.#state !== 'cut') this.#cut(describeError(error));
    }
  }
}
