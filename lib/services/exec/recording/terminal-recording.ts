/** One recorded terminal: its lines are written to a file in order, without slowing the terminal down. */
import { close, ftruncate, write } from 'node:fs';
import { StringDecoder } from 'node:string_decoder';
import { promisify } from 'node:util';
import { writesAllowed } from '../../../system/files/frozen-writes.js';
import type { Clock } from '../../../util/clock.js';
import { deferred } from '../../../util/concurrency.js';
import { describeError } from '../../../util/escape.js';
import type { TerminalSize } from '../exec-messages.js';
import { CAST_CODE, type CastHeader, formatCastEvent, formatCastHeader, formatCastSize } from './asciicast.js';

export interface TerminalRecordingOptions {
  readonly path: string;
  /** The descriptor of the empty file; the recording closes it. */
  readonly fd: number;
  readonly clock: Clock;
  readonly header: CastHeader;
  /** Whether to keep typed input, too. */
  readonly hasInput: boolean;
  /** The maximum size, in bytes. */
  readonly maxBytes: number;
  /** Returns why its folder is full, or null; called every {@link LOOK_BYTES}. */
  readonly whyFull: () => string | null;
  /** Called if the recording ends before the terminal, with the reason. */
  readonly onCut: (why: string) => void;
}

/** Bytes that may wait for the disk; beyond that the recording ends, since the terminal never waits. */
const MAX_WAITING_BYTES = 4_194_304;

/** Bytes written between two checks of the folder. */
const LOOK_BYTES = 4_194_304;

const writeTo = promisify(write);
const truncate = promisify(ftruncate);
const closeFile = promisify(close);

/** A recording. Keeps events in order, each with its time, until `end`. */
export class TerminalRecording {
  readonly path: string;
  /** Resolves when everything is written and the file is closed; never rejects. */
  readonly closed: Promise<void>;
  readonly #options: TerminalRecordingOptions;
  readonly #closed = deferred();
  readonly #startedAtMs: number;
  // A character may be split between two chunks.
  readonly #output = new StringDecoder('utf8');
  readonly #input = new StringDecoder('utf8');
  /** Lines not yet being written. */
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

  /** Records output. Does not keep `bytes` after the call. */
  output(bytes: Buffer): void {
    this.#add(CAST_CODE.OUTPUT, () => this.#output.write(bytes));
  }

  input(bytes: Buffer): void {
    if (this.#options.hasInput) this.#add(CAST_CODE.INPUT, () => this.#input.write(bytes));
  }

  resize(size: TerminalSize): void {
    this.#add(CAST_CODE.RESIZE, () => formatCastSize(size));
  }

  /** Ends the recording; the file is closed when everything is written. Harmless the second time. */
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
    if (this.#bytes + bytes > maxBytes) return `it has reached ${maxBytes} bytes`;
    if (this.#waitingBytes > MAX_WAITING_BYTES) return 'the disk is too slow';
    if (this.#bytes < this.#lookAtBytes) return null;
    this.#lookAtBytes = this.#bytes + LOOK_BYTES;
    return whyFull();
  }

  /** Ends the recording before the terminal. The marker, exempt from all limits, is shown on playback. */
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

  /** Writes waiting lines in batches, and closes the file after the last. Never rejects. */
  async #write(): Promise<void> {
    if (this.#isWriting) return;
    this.#isWriting = true;
    // Batch all lines of the same turn.
    await Promise.resolve();
    while (this.#lines.length > 0) await this.#writeLines();
    this.#isWriting = this.#state !== 'open';
    if (!this.#isWriting) return;
    await closeFile(this.#options.fd).catch(() => undefined);
    this.#closed.resolve();
  }

  async #writeLines(): Promise<void> {
    await writesAllowed();
    const { fd } = this.#options;
    const bytes = Buffer.from(this.#lines.join(''));
    const wholeBytes = this.#bytes - this.#waitingBytes;
    this.#lines = [];
    try {
      for (let at = 0; at < bytes.length; at += (await writeTo(fd, bytes, at)).bytesWritten);
      this.#waitingBytes -= bytes.length;
    } catch (error) {
      // Remove a partly written line.
      await truncate(fd, wholeBytes).catch(() => undefined);
      this.#lines = [];
      this.#bytes = wholeBytes;
      this.#waitingBytes = 0;
      if (this.#state !== 'cut') this.#cut(describeError(error));
    }
  }
}
