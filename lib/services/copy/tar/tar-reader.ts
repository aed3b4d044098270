/** Reads the entries of a tar that arrives in DATA records. */

import type { EventEmitter } from 'node:events';
import tar from 'tar-stream';
import { protocolError, toVproxyError, type VproxyError } from '../../../errors.js';
import { describeError, escapeText } from '../../../util/escape.js';
import type { RecordStream } from '../record-stream.js';
import { type CopyEntry, parseHeader, type TarHeader } from './entry.js';
import { TarBounds } from './tar-bounds.js';

/** Bytes buffered ahead of the reader of an entry. */
const AHEAD_BYTES = 262_144;

/** Smaller pieces are gathered into blocks: tar-stream and the reader of an entry keep a buffer of 100 bytes or more for each. */
const SMALL_BYTES = 16_384;

const GATHERED_BYTES = 65_536;

/** Takes the entries. Nothing more is read while one of its promises is pending. */
export interface EntryHandler {
  /** Starts an entry; for a file with bytes, {@link onBytes} follows. */
  onEntry(entry: CopyEntry): Promise<void>;
  /** Bytes of the file; the handler owns the buffer. Null means ready for more. */
  onBytes(bytes: Buffer): Promise<void> | null;
  onFileEnd(): Promise<void>;
}

/** The part of tar-stream's streams used here: they are streamx streams, not Node's. */
interface Body extends EventEmitter {
  pause(): void;
  resume(): void;
}

export class TarReader {
  readonly #records: RecordStream;
  readonly #handler: EntryHandler;
  readonly #extract = tar.extract({ highWaterMark: AHEAD_BYTES });
  readonly #bounds = new TarBounds();
  readonly #finished: Promise<void>;
  /** The last entry. */
  #handling = Promise.resolve();
  #gathered: Buffer | null = null;
  #gatheredBytes = 0;
  #isFailed = false;

  /** Takes over the data of `records`; a failure of the tar fails them. */
  constructor(records: RecordStream, handler: EntryHandler) {
    this.#records = records;
    this.#handler = handler;
    this.#extract.on('entry', (header: TarHeader, body: Body, next: () => void) => {
      this.#handling = this.#handle(header, body).then(next, (error: unknown) => this.#fail(toVproxyError(error)));
    });
    this.#extract.on('drain', () => records.resume());
    this.#finished = new Promise((resolve) => {
      this.#extract.once('finish', resolve);
      this.#extract.once('error', (error: Error) => {
        const message = `copy: the tar is not valid: ${escapeText(describeError(error))}`;
        this.#fail(protocolError(message));
        resolve();
      });
      this.#extract.once('close', resolve);
    });
    records.onData = (bytes) => this.#push(bytes);
  }

  /** Call after the last data: resolves when all entries are handled. Rejects with the failure. */
  async end(): Promise<void> {
    await this.drain();
    this.#records.check();
  }

  /** Call when no more data follows: resolves when the received part is handled, as far as possible. */
  async drain(): Promise<void> {
    this.#flush();
    this.#extract.end();
    await this.#finished;
  }

  destroy(): void {
    this.#isFailed = true;
    this.#extract.destroy();
  }

  /** Resolves once no entry is being handled; after {@link destroy}. */
  async idle(): Promise<void> {
    await this.#handling;
  }

  #push(bytes: Buffer): boolean {
    if (this.#isFailed) return true;
    this.#bounds.check(bytes);
    if (bytes.length < SMALL_BYTES) return this.#gather(bytes);
    this.#flush();
    return this.#extract.write(bytes);
  }

  #gather(bytes: Buffer): boolean {
    const hasRoom = this.#gatheredBytes + bytes.length <= GATHERED_BYTES || this.#flush();
    this.#gathered ??= Buffer.allocUnsafeSlow(GATHERED_BYTES);
    this.#gatheredBytes += bytes.copy(this.#gathered, this.#gatheredBytes);
    return hasRoom;
  }

  /** Passes on the gathered bytes; false means stop for now. */
  #flush(): boolean {
    if (this.#gathered === null || this.#gatheredBytes === 0 || this.#isFailed) return true;
    const bytes = this.#gathered.subarray(0, this.#gatheredBytes);
    const isFull = this.#gatheredBytes > GATHERED_BYTES / 2;
    this.#gatheredBytes = 0;
    if (isFull) this.#gathered = null;
    return this.#extract.write(isFull ? bytes : Buffer.from(bytes));
  }

  async #handle(header: TarHeader, body: Body): Promise<void> {
    // It fails together with the whole stream.
    body.on('error', () => undefined);
    const entry = parseHeader(header);
    await this.#handler.onEntry(entry);
    // Then the body has closed before anybody listens.
    if (this.#isFailed) return;
    const bytes = entry.bytes - entry.offset;
    if (bytes > 0) await this.#read(body);
    if (entry.kind === 'file') await this.#handler.onFileEnd();
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
      body.once('close', () => reject(protocolError('copy: the tar ended within a file')));
    });
  }

  #fail(error: VproxyError): void {
    if (this.#isFailed) return;
    this.#records.fail(error);
    this.destroy();
  }
}
