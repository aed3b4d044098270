/** The entries of a tar that comes in DATA records. */
import type { EventEmitter } from 'node:events';
import tar from 'tar-stream';
import { toVproxyError, VproxyError } from '../errors.js';
import { describeError } from '../util/describe-error.js';
import { escapeText } from '../util/escape.js';
import { type CopyEntry, parseHeader, type TarHeader } from './entry.js';
import type { RecordStream } from './record-stream.js';

/** So much is taken in before the reader of an entry has it, in bytes. */
const AHEAD_BYTES = 262_144;

/**
 * tar-stream keeps a header, with all that pax says, until it is complete, however long the tar says that it is. So much may
 * come without an entry: far more than the two longest paths, what was taken in, and a piece as a stream gives it.
 */
const MAX_HEADER_BYTES = 4_194_304;

/** Takes the entries. While a promise of it is pending nothing more is read. */
export interface EntryHandler {
  /** Begins an entry; of a file with bytes, {@link onBytes} follow. */
  onEntry(entry: CopyEntry): Promise<void>;
  /** Bytes of the file, whose buffer is the handler's. Null: more may come. */
  onBytes(bytes: Buffer): Promise<void> | null;
  /** The file is complete. */
  onFileEnd(): Promise<void>;
}

/** What of a stream of tar-stream is used here: it is of streamx, not of Node. */
interface Body extends EventEmitter {
  pause(): void;
  resume(): void;
}

export class TarReader {
  readonly #records: RecordStream;
  readonly #handler: EntryHandler;
  readonly #extract = tar.extract({ highWaterMark: AHEAD_BYTES });
  readonly #finished: Promise<void>;
  /** Whether an entry is being handled. */
  #isWithinEntry = false;
  #isFailed = false;
  #pushedBytes = 0;
  /** Where the entry before ended, at the latest. */
  #entryEndBytes = 0;

  /** Takes the data of `records` from now on; what fails ends them. */
  constructor(records: RecordStream, handler: EntryHandler) {
    this.#records = records;
    this.#handler = handler;
    this.#extract.on('entry', (header: TarHeader, body: Body, next: () => void) => {
      this.#handle(header, body).then(next, (error: unknown) => this.#fail(toVproxyError(error)));
    });
    this.#extract.on('drain', () => records.resume());
    this.#finished = new Promise((resolve) => {
      this.#extract.once('finish', resolve);
      this.#extract.once('error', (error: Error) => {
        const message = `copy: the tar is not valid: ${escapeText(describeError(error))}`;
        this.#fail(new VproxyError('protocol-error', message));
        resolve();
      });
      this.#extract.once('close', resolve);
    });
    records.onData = (bytes) => this.#push(bytes);
  }

  /** All data has come: resolved when all entries are handled. Rejects with what has failed. */
  async end(): Promise<void> {
    this.#extract.end();
    await this.#finished;
    this.#records.check();
  }

  /** No more data comes: resolved when what has come is handled, as far as that works. */
  async drain(): Promise<void> {
    this.#extract.end();
    await this.#finished;
  }

  /** Gives it up. */
  destroy(): void {
    this.#isFailed = true;
    this.#extract.destroy();
  }

  #push(bytes: Buffer): boolean {
    if (this.#isFailed) return true;
    this.#pushedBytes += bytes.length;
    if (!this.#isWithinEntry && this.#pushedBytes - this.#entryEndBytes > MAX_HEADER_BYTES) {
      throw new VproxyError('protocol-error', `copy: the tar has no entry within ${MAX_HEADER_BYTES} bytes`);
    }
    return this.#extract.write(bytes);
  }

  async #handle(header: TarHeader, body: Body): Promise<void> {
    // It fails together with the whole.
    body.on('error', () => undefined);
    this.#isWithinEntry = true;
    const entry = parseHeader(header);
    await this.#handler.onEntry(entry);
    const bytes = entry.bytes - entry.offset;
    if (bytes > 0) await this.#read(body);
    if (entry.kind === 'file') await this.#handler.onFileEnd();
    this.#entryEndBytes = this.#pushedBytes;
    this.#isWithinEntry = false;
  }

  #read(body: Body): Promise<void> {
    return new Promise((resolve, reject) => {
      body.on('data', (chunk: Buffer) => {
        const busy = this.#handler.onBytes(chunk);
        if (busy === null) return;
        body.pause();
        busy.then(() => body.resume(), reject);
      });
      body.once('end', resolve);
      body.once('close', () => reject(new VproxyError('protocol-error', 'copy: the tar ended within a file')));
    });
  }

  #fail(error: VproxyError): void {
    if (this.#isFailed) return;
    this.#records.fail(error);
    this.destroy();
  }
}
