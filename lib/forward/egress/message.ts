/** Reads HTTP/1.1 messages from a stream of bytes: heads, and bodies by their framing (RFC 9112 sections 6 and 7). */
import {
  BadMessage,
  endOfHead,
  type Field,
  HeadTooLarge,
  Incomplete,
  listOf,
  parseField,
  type RequestHead,
  type ResponseHead,
  valuesOf,
} from './head.js';

/** How a body ends; `close`: with the connection. */
export type Framing =
  | { readonly kind: 'none' }
  | { readonly kind: 'length'; readonly bytes: number }
  | { readonly kind: 'chunked' }
  | { readonly kind: 'close' };

const NO_BODY: Framing = { kind: 'none' };

/** The framing of a request. Throws {@link BadMessage} if it is ambiguous. */
export function requestFraming({ fields, method, minor }: RequestHead): Framing {
  const framing = framingOf(fields, minor);
  if (framing === null) return NO_BODY;
  const isEmpty = framing.kind === 'length' && framing.bytes === 0;
  if (method === 'CONNECT' && !isEmpty) throw new BadMessage('CONNECT cannot have a body');
  return framing;
}

/** The framing of the answer to a request with that method (RFC 9112 section 6.3). Throws {@link BadMessage}. */
export function responseFraming({ fields, minor, status }: ResponseHead, method: string): Framing {
  const framing = framingOf(fields, minor);
  return method === 'HEAD' || hasNoBody(status) ? NO_BODY : (framing ?? { kind: 'close' });
}

/** Whether answers with that status never have a body. */
const hasNoBody = (status: number): boolean => status < 200 || status === 204 || status === 304;

/** The Content-Length of a message, in bytes; null if missing. */
export function contentLengthOf(fields: readonly Field[]): number | null {
  const values = valuesOf(fields, 'content-length');
  const [value] = values;
  if (value === undefined) return null;
  if (values.length > 1 || !/^\d{1,15}$/.test(value)) throw new BadMessage('Content-Length is not a single number');
  return Number(value);
}

function framingOf(fields: readonly Field[], minor: 0 | 1): Framing | null {
  const length = contentLengthOf(fields);
  if (valuesOf(fields, 'transfer-encoding').length === 0)
    return length === null ? null : { kind: 'length', bytes: length };
  if (length !== null) throw new BadMessage('both Content-Length and Transfer-Encoding are present');
  if (minor === 0) throw new BadMessage('Transfer-Encoding in HTTP/1.0');
  const codings = listOf(fields, 'transfer-encoding');
  if (codings.length !== 1 || codings[0] !== 'chunked') throw new BadMessage('Transfer-Encoding is not chunked');
  return { kind: 'chunked' };
}

export interface ByteSource {
  /** The next bytes, valid until the next call; null at the end. */
  read(): Promise<Buffer | null>;
}

interface HeadOptions {
  /** Limit on its length, with its empty line. */
  readonly maxBytes: number;
  /** A part of it has arrived, and the rest has not. */
  readonly onPart?: () => void;
  /** Throws for an invalid first line, without waiting for the rest of the head. */
  readonly checkFirstLine?: (line: string) => void;
}

/** Limit on a line of a chunked body: its size and extensions. */
const MAX_CHUNK_LINE_BYTES = 1024;
/** Limit on the trailer section, which is dropped. */
const MAX_TRAILER_BYTES = 16_384;

const CHUNK_LINE = /^([0-9A-Fa-f]{1,13})(?:;[\t\x20-\x7e\x80-\xff]*)?$/;
const NOTHING = Buffer.alloc(0);

/** Reads one message after the other. Throws {@link BadMessage} for anything invalid; nothing can be read after that. */
export class HttpReader {
  readonly #source: ByteSource;
  #rest: Buffer = NOTHING;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** Whether bytes after the last message have already arrived. */
  get hasRest(): boolean {
    return this.#rest.length > 0;
  }

  /** Takes the bytes after the last message: the end of the latest read, or nothing. */
  takeRest(): Buffer {
    const rest = this.#rest;
    this.#rest = NOTHING;
    return rest;
  }

  /** Takes a body of that length, if all of it has already arrived; else null. */
  takeWhole(byteCount: number): Buffer | null {
    if (this.#rest.length < byteCount) return null;
    const whole = this.#rest.subarray(0, byteCount);
    this.#rest = this.#rest.subarray(byteCount);
    return whole;
  }

  /** Peeks at the next byte; null at the end. */
  async firstByte(): Promise<number | null> {
    return (await this.#hasMore()) ? (this.#rest[0] ?? null) : null;
  }

  /** Reads a small number of bytes in one piece. Throws {@link Incomplete} if they do not come. */
  async exactly(byteCount: number): Promise<Buffer> {
    const pieces: Buffer[] = [];
    for await (const piece of this.#exactly(byteCount)) pieces.push(Buffer.from(piece));
    return Buffer.concat(pieces);
  }

  /** Waits for bytes; false at the end. */
  async #hasMore(): Promise<boolean> {
    if (this.#rest.length === 0) this.#rest = (await this.#source.read()) ?? NOTHING;
    return this.#rest.length > 0;
  }

  /** The text of the next head, one character per byte, with its empty line; null if the other side ended before it. */
  async head({ maxBytes, onPart, checkFirstLine }: HeadOptions): Promise<string | null> {
    if (!(await this.#hasMore())) return null;
    let bytes = this.takeRest();
    /** The buffer that `bytes` begins once they come in several pieces; it grows geometrically, so few are copied twice. */
    let room = NOTHING;
    let scanned = 0;
    let mayBeEmptyLine = true;
    let isFirstLineChecked = checkFirstLine === undefined;
    let isPart = false;
    for (;;) {
      // RFC 9112 section 2.2: ignore one empty line before a request.
      if (mayBeEmptyLine && bytes.length >= 2) {
        mayBeEmptyLine = false;
        if (bytes[0] === 0x0d && bytes[1] === 0x0a) {
          bytes = bytes.subarray(2);
          room = NOTHING;
          scanned = 0;
        }
      }
      const end = endOfHead(bytes.subarray(0, maxBytes), scanned);
      if (!isFirstLineChecked) {
        const lineEnd = bytes.indexOf('\r\n', Math.max(0, scanned - 1));
        if (lineEnd !== -1) {
          isFirstLineChecked = true;
          checkFirstLine?.(bytes.toString('latin1', 0, lineEnd));
        }
      }
      if (end !== -1) {
        this.#rest = bytes.subarray(end);
        return bytes.toString('latin1', 0, end);
      }
      if (bytes.length >= maxBytes) throw new HeadTooLarge(`the head exceeds ${maxBytes} bytes`);
      scanned = bytes.length;
      if (!isPart) onPart?.();
      isPart = true;
      const more = await this.#source.read();
      if (more === null) throw new Incomplete();
      const byteCount = bytes.length + more.length;
      if (byteCount > room.length) {
        room = Buffer.allocUnsafeSlow(2 * byteCount);
        bytes.copy(room);
      }
      more.copy(room, bytes.length);
      bytes = room.subarray(0, byteCount);
    }
  }

  /** Yields the body without its framing, piece by piece. A piece is valid until the next one is requested. */
  async *body(framing: Framing): AsyncGenerator<Buffer, void, undefined> {
    if (framing.kind === 'length') yield* this.#exactly(framing.bytes);
    else if (framing.kind === 'chunked') yield* this.#chunks();
    else if (framing.kind === 'close') while (await this.#hasMore()) yield this.takeRest();
  }

  async *#exactly(byteCount: number): AsyncGenerator<Buffer, void, undefined> {
    for (let left = byteCount; left > 0; ) {
      if (!(await this.#hasMore())) throw new Incomplete();
      const bytes = this.takeRest();
      this.#rest = bytes.subarray(left);
      const piece = bytes.subarray(0, left);
      left -= piece.length;
      yield piece;
    }
  }

  async *#chunks(): AsyncGenerator<Buffer, void, undefined> {
    for (;;) {
      const data = this.#wholeChunks();
      if (data.length > 0) yield data;
      const [, digits] = CHUNK_LINE.exec(await this.#line(MAX_CHUNK_LINE_BYTES)) ?? [];
      if (digits === undefined) throw new BadMessage('a chunk does not begin with a valid size');
      const byteCount = Number.parseInt(digits, 16);
      if (byteCount === 0) break;
      yield* this.#exactly(byteCount);
      await this.#line(0);
    }
    for (let left = MAX_TRAILER_BYTES; ; ) {
      const line = await this.#line(left);
      if (line === '') return;
      parseField(line);
      left -= line.length + 2;
    }
  }

  /** Takes the data of all complete chunks in one piece, however small they are; leaves everything that is not plain. */
  #wholeChunks(): Buffer {
    const bytes = this.#rest;
    const data: Buffer = Buffer.allocUnsafe(bytes.length);
    let dataBytes = 0;
    for (let at = 0; ; ) {
      let byteCount = 0;
      let lineEnd = at;
      for (let digit = digitOf(bytes[lineEnd]); digit !== -1 && lineEnd < at + MAX_WHOLE_DIGITS; ) {
        byteCount = 16 * byteCount + digit;
        lineEnd += 1;
        digit = digitOf(bytes[lineEnd]);
      }
      const start = lineEnd + 2;
      const end = start + byteCount;
      const isWhole = isLineEnd(bytes, lineEnd) && byteCount > 0 && isLineEnd(bytes, end);
      if (!isWhole) {
        this.#rest = bytes.subarray(at);
        return data.subarray(0, dataBytes);
      }
      // Avoid a `copy` for each byte.
      if (byteCount === 1) data[dataBytes] = bytes[start] ?? 0;
      else bytes.copy(data, dataBytes, start, end);
      dataBytes += byteCount;
      at = end + 2;
    }
  }

  /** The next line, without its CRLF. */
  async #line(maxBytes: number): Promise<string> {
    let text = '';
    for (;;) {
      if (!(await this.#hasMore())) throw new Incomplete();
      const bytes = this.takeRest();
      const lineEnd = bytes.indexOf('\n');
      text += bytes.toString('latin1', 0, lineEnd === -1 ? Math.min(bytes.length, maxBytes + 2) : lineEnd);
      if (text.length > maxBytes + 1) throw new BadMessage('a line of a chunked body is too long');
      if (lineEnd === -1) continue;
      this.#rest = bytes.subarray(lineEnd + 1);
      if (!text.endsWith('\r') || text.indexOf('\r') !== text.length - 1)
        throw new BadMessage('a line of a chunked body does not end with CRLF');
      return text.slice(0, -1);
    }
  }
}

/** More digits than the size of any complete chunk has. */
const MAX_WHOLE_DIGITS = 6;

const isLineEnd = (bytes: Buffer, at: number): boolean => bytes[at] === 0x0d && bytes[at + 1] === 0x0a;

/** The value of a hexadecimal digit; -1 for any other byte. */
function digitOf(byte = 0): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

export function chunkOf(piece: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from('\r\n')]);
}

export const LAST_CHUNK = Buffer.from('0\r\n\r\n');
