/** Writes entries as a tar, in DATA records. */
import tar from 'tar-stream';
import { VproxyError } from '../../../errors.js';
import { encodeRecordHeader, RECORD_HEADER_BYTES } from '../../../util/bytes/records.js';
import { COPY_KIND } from '../copy-messages.js';
import type { RecordStream } from '../record-stream.js';
import { type CopyEntry, entryHeader } from './entry.js';

/** Pieces up to this size are gathered into records: many small files become few large writes. */
const SMALL_BYTES = 16_384;

const GATHERED_BYTES = 65_536;

export class TarWriter {
  readonly #records: RecordStream;
  readonly #pack = tar.pack();
  /** Room for a record header, the gathered bytes, and the next record's header. */
  #gathered = newGathered();
  #gatheredBytes = 0;

  constructor(records: RecordStream) {
    this.#records = records;
    this.#pack.on('data', (chunk: Buffer) => this.#handleChunk(chunk));
    // The writer of the entry reports the failure.
    this.#pack.on('error', () => undefined);
  }

  /** Writes an entry, with its bytes after the offset. */
  async add(entry: CopyEntry, contents: AsyncIterable<Buffer>): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      const sink = this.#pack.entry(entryHeader(entry), (error) => (error ? reject(error) : resolve()));
      if (entry.kind === 'file') this.#pour(contents, sink).catch(reject);
    });
    await this.#records.drained();
  }

  /** Ends the tar, and writes the rest of it. */
  async end(): Promise<void> {
    const ended = new Promise<void>((resolve, reject) => {
      this.#pack.once('end', resolve);
      this.#pack.once('close', () => reject(new VproxyError('internal', 'the tar ended too early')));
    });
    this.#pack.finalize();
    await ended;
    this.#flush();
    await this.#records.drained();
  }

  destroy(): void {
    this.#pack.destroy();
  }

  async #pour(contents: AsyncIterable<Buffer>, sink: NodeJS.WritableStream): Promise<void> {
    for await (const block of contents) {
      sink.write(block);
      await this.#records.drained();
    }
    sink.end();
  }

  #handleChunk(chunk: Buffer): void {
    if (chunk.length > SMALL_BYTES) {
      this.#flush(encodeRecordHeader(COPY_KIND.DATA, chunk.length));
      this.#records.write(chunk);
      return;
    }
    if (this.#gatheredBytes + chunk.length > GATHERED_BYTES) this.#flush();
    chunk.copy(this.#gathered, RECORD_HEADER_BYTES + this.#gatheredBytes);
    this.#gatheredBytes += chunk.length;
  }

  /** Writes the gathered bytes and the header of the next record in one piece. */
  #flush(next: Buffer | null = null): void {
    const bytes = this.#gatheredBytes;
    if (bytes === 0) {
      if (next !== null) this.#records.write(next);
      return;
    }
    const end = RECORD_HEADER_BYTES + bytes;
    encodeRecordHeader(COPY_KIND.DATA, bytes).copy(this.#gathered);
    next?.copy(this.#gathered, end);
    this.#records.write(this.#gathered.subarray(0, end + (next?.length ?? 0)));
    this.#gathered = newGathered();
    this.#gatheredBytes = 0;
  }
}

const newGathered = (): Buffer => Buffer.allocUnsafe(GATHERED_BYTES + 2 * RECORD_HEADER_BYTES);
