/** Records: how built-in services frame a stream. `u8 kind, u32 length (big-endian), payload`. */
import { isUtf8 } from 'node:buffer';
import { type ErrorCode, protocolError, VproxyError } from '../../errors.js';
import { JsonScanner } from './json-scanner.js';

export const RECORD_HEADER_BYTES = 5;

/** Limit on the payload of a record, in bytes, whatever its length says. */
export const MAX_RECORD_BYTES = 1_048_576;

/** The header of a record whose payload follows. */
export function encodeRecordHeader(kind: number, payloadBytes: number): Buffer {
  const header = Buffer.allocUnsafe(RECORD_HEADER_BYTES);
  header.writeUInt8(kind, 0);
  header.writeUInt32BE(payloadBytes, 1);
  return header;
}

/** A whole record. A text is encoded as UTF-8. */
export function encodeRecord(kind: number, payload: Uint8Array | string): Buffer {
  const bytes = typeof payload === 'string' ? Buffer.from(payload) : payload;
  return Buffer.concat([encodeRecordHeader(kind, bytes.length), bytes]);
}

/**
 * Parses a payload that is a single JSON object. Throws `protocol-error`, with `what` in its message, for anything else, and
 * before parsing for an object with more values than the scanner allows.
 */
export function decodeJsonRecord(payload: Buffer, what: string): Record<string, unknown> {
  const scanner = new JsonScanner(MAX_RECORD_BYTES, 'protocol-error', what);
  scanner.push(payload);
  const text = scanner.next();
  // Other texts are not even parsed: the scanner bounds the values only of an object.
  const isObject = text?.[0] === OPENING_BRACE && scanner.next() === undefined && scanner.isEmpty;
  try {
    if (isObject) return JSON.parse(text.toString()) as Record<string, unknown>;
  } catch {
    // Reported below.
  }
  throw protocolError(`${what} is not a JSON object`);
}

const OPENING_BRACE = 0x7b;

/**
 * The same for a request that names files or programs: no text of it is changed without a word. Throws `code`, also if it is not
 * UTF-8, or if an escape of it is half a surrogate pair, which UTF-8 lacks.
 */
export function decodeJsonRequest(payload: Buffer, what: string, code: ErrorCode): Record<string, unknown> {
  const wrong = (why: string): VproxyError => new VproxyError(code, `${what} ${why}`);
  if (!isUtf8(payload)) throw wrong('is not UTF-8');
  let object: Record<string, unknown>;
  try {
    object = decodeJsonRecord(payload, what);
  } catch (error) {
    throw new VproxyError(code, (error as Error).message);
  }
  if (!isUnicode(JSON.stringify(object))) throw wrong('has half a surrogate pair');
  return object;
}

/** Whether no text has half a surrogate pair, in JSON from JSON.stringify, which escapes only those. */
export const isUnicode = (json: string): boolean => !/(?:^|[^\\])(?:\\\\)*\\ud[89a-f]/.test(json);

/** Receives the records. Whatever it throws, `push` throws. */
export interface RecordHandler {
  /** The kinds whose payload is passed on in pieces as it arrives. */
  readonly pieces: ReadonlySet<number>;
  /** Called at the start of a record, before anything of it is kept; may throw to reject it. Default: accepts all. */
  onHeader?(kind: number, payloadBytes: number): void;
  /** A whole record of any other kind. The handler owns the payload. */
  onRecord(kind: number, payload: Buffer): void;
  /** A non-empty piece of the payload of a kind in `pieces`: a view, valid as long as the chunk that it came in. */
  onPiece(kind: number, bytes: Buffer): void;
  /** Asked before each record and each piece: whether {@link RecordReader.push} must stop there. Default: never. */
  isFull?(): boolean;
}

/** Initial room for a payload, which grows with its bytes: a length alone takes no memory. */
const FIRST_PAYLOAD_BYTES = 4096;

/** Reads records from a stream, however its bytes are split. */
export class RecordReader {
  readonly #handler: RecordHandler;
  readonly #header = Buffer.alloc(RECORD_HEADER_BYTES);
  #headerBytes = 0;
  /** The start of an incomplete payload; null in a header, and for payloads passed on in pieces. */
  #payload: Buffer | null = null;
  #payloadBytes = 0;
  #leftBytes = 0;

  constructor(handler: RecordHandler) {
    this.#handler = handler;
  }

  /** Whether a record has started and is incomplete. */
  get isWithinRecord(): boolean {
    return this.#headerBytes > 0;
  }

  /**
   * Reads bytes until the handler is full. Returns how many were read; pass the rest again later. Throws `protocol-error` for a
   * payload above {@link MAX_RECORD_BYTES}.
   */
  push(chunk: Buffer): number {
    let at = 0;
    while (at < chunk.length && this.#handler.isFull?.() !== true) {
      at = this.#headerBytes < RECORD_HEADER_BYTES ? this.#readHeader(chunk, at) : this.#readPayload(chunk, at);
    }
    return at;
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
    this.#handler.onHeader?.(kind, this.#leftBytes);
    if (this.#leftBytes > MAX_RECORD_BYTES) {
      throw protocolError(`record of kind ${kind} too long: ${this.#leftBytes} bytes (max ${MAX_RECORD_BYTES})`);
    }
    const isWhole = !this.#handler.pieces.has(kind);
    this.#payload = isWhole ? Buffer.allocUnsafeSlow(Math.min(this.#leftBytes, FIRST_PAYLOAD_BYTES)) : null;
    this.#payloadBytes = 0;
    if (this.#leftBytes === 0) this.#complete();
  }

  #readPayload(chunk: Buffer, at: number): number {
    const count = Math.min(this.#leftBytes, chunk.length - at);
    const bytes = chunk.subarray(at, at + count);
    this.#leftBytes -= count;
    if (this.#payload === null) this.#handler.onPiece(this.#header.readUInt8(0), bytes);
    else this.#payload = this.#append(this.#payload, bytes);
    if (this.#leftBytes === 0) this.#complete();
    return at + count;
  }

  /** Appends bytes to a payload, doubling its room if needed. */
  #append(payload: Buffer, bytes: Buffer): Buffer {
    const neededBytes = this.#payloadBytes + bytes.length;
    let target = payload;
    if (neededBytes > payload.length) {
      const most = neededBytes + this.#leftBytes;
      target = Buffer.allocUnsafeSlow(Math.min(most, Math.max(neededBytes, 2 * payload.length)));
      payload.copy(target, 0, 0, this.#payloadBytes);
    }
    bytes.copy(target, this.#payloadBytes);
    this.#payloadBytes = neededBytes;
    return target;
  }

  #complete(): void {
    const payload = this.#payload;
    this.#headerBytes = 0;
    this.#payload = null;
    if (payload !== null) this.#handler.onRecord(this.#header.readUInt8(0), payload);
  }
}
