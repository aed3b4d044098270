/** Records: how built-in services divide a stream. `u8 kind, u32 length (big-endian), payload`. */
import { VproxyError } from '../errors.js';

/** Before each payload, in bytes. */
export const RECORD_HEADER_BYTES = 5;

/** A record's payload may have so many bytes, whatever a length says. */
export const MAX_RECORD_BYTES = 1_048_576;

/** The header of a record whose payload follows. */
export function encodeRecordHeader(kind: number, payloadBytes: number): Buffer {
  const header = Buffer.allocUnsafe(RECORD_HEADER_BYTES);
  header.writeUInt8(kind, 0);
  header.writeUInt32BE(payloadBytes, 1);
  return header;
}

/** A whole record. A text is written as UTF-8. */
export function encodeRecord(kind: number, payload: Uint8Array | string): Buffer {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
  return Buffer.concat([encodeRecordHeader(kind, bytes.length), bytes]);
}

/** Who reads records. What these throw, `push` throws. */
export interface RecordHandler {
  /** The kinds whose payload is handed on in pieces, as they come. */
  readonly pieces: ReadonlySet<number>;
  /** A whole record of another kind. The payload is the handler's. */
  onRecord(kind: number, payload: Buffer): void;
  /** A piece, never empty, of the payload of a kind in `pieces`: a view that is valid as long as the chunk that it came in. */
  onPiece(kind: number, bytes: Buffer): void;
}

/** Reads records from a stream, however its bytes are split. */
export class RecordReader {
  readonly #handler: RecordHandler;
  readonly #header = Buffer.alloc(RECORD_HEADER_BYTES);
  #headerBytes = 0;
  /** The payload of a record that is not complete; null in a header, and where it is handed on in pieces. */
  #payload: Buffer | null = null;
  #leftBytes = 0;

  constructor(handler: RecordHandler) {
    this.#handler = handler;
  }

  /** Whether a record has begun and is not complete. */
  get isWithinRecord(): boolean {
    return this.#headerBytes > 0;
  }

  /** Reads the next bytes. Throws `protocol-error` for a payload above {@link MAX_RECORD_BYTES}. */
  push(chunk: Buffer): void {
    let at = 0;
    while (at < chunk.length) {
      at = this.#headerBytes < RECORD_HEADER_BYTES ? this.#readHeader(chunk, at) : this.#readPayload(chunk, at);
    }
  }

  #readHeader(chunk: Buffer, at: number): number {
    const count = Math.min(RECORD_HEADER_BYTES - this.#headerBytes, chunk.length - at);
    chunk.copy(this.#header, this.#headerBytes, at, at + count);
    this.#headerBytes += count;
    if (this.#headerBytes === RECORD_HEADER_BYTES) this.#begin();
    return at + count;
  }

  #begin(): void {
    const kind = this.#header.readUInt8(0);
    this.#leftBytes = this.#header.readUInt32BE(1);
    if (this.#leftBytes > MAX_RECORD_BYTES) {
      throw new VproxyError('protocol-error', `a record of kind ${kind} is longer than ${MAX_RECORD_BYTES} bytes`);
    }
    this.#payload = this.#handler.pieces.has(kind) ? null : Buffer.alloc(this.#leftBytes);
    if (this.#leftBytes === 0) this.#complete();
  }

  #readPayload(chunk: Buffer, at: number): number {
    const count = Math.min(this.#leftBytes, chunk.length - at);
    const bytes = chunk.subarray(at, at + count);
    if (this.#payload === null) this.#handler.onPiece(this.#header.readUInt8(0), bytes);
    else bytes.copy(this.#payload, this.#payload.length - this.#leftBytes);
    this.#leftBytes -= count;
    if (this.#leftBytes === 0) this.#complete();
    return at + count;
  }

  #complete(): void {
    const payload = this.#payload;
    this.#headerBytes = 0;
    this.#payload = null;
    if (payload !== null) this.#handler.onRecord(this.#header.readUInt8(0), payload);
  }
}
