/** Checks the headers of a tar before tar-stream sees them: tar-stream parses and buffers as much as any length says. */
import { protocolError, type VproxyError } from '../../../errors.js';

const BLOCK_BYTES = 512;

/** Limit on the bytes before an entry or after the last one: pax headers with the two longest paths, and padding. */
export const MAX_HEADER_BYTES = 16_384;

export const MAX_PAX_KEYS = 64;

/** Header types that carry names and other attributes of the next entry; K, L and N are from GNU tar. */
const PAX = 'x';
const PAX_GLOBAL = 'g';
const LONG_NAMES: ReadonlySet<string> = new Set(['K', 'L', 'N']);

const SIZE_AT = 124;
const SIZE_BYTES = 12;
const CHECKSUM_AT = 148;
const KIND_AT = 156;

const SPACE = 0x20;
const LINE_FEED = 0x0a;
const EQUALS = 0x3d;
const BASE_256 = 0x80;

/**
 * Follows a tar from header to header. Stricter than tar-stream, so that both see the same headers: a size has one of the two
 * forms that tars are written with, and every pax record its length. {@link parseHeader} checks the entries themselves.
 */
export class TarBounds {
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #blockBytes = 0;
  /** Bytes to skip: the contents of an entry or of a long name, and padding. */
  #skippedBytes = 0;
  /** An incomplete pax header; otherwise null. */
  #pax: Buffer | null = null;
  #paxBytes = 0;
  /** Bytes received since the last entry. */
  #headerBytes = 0;
  /** The size of the next entry, if its pax header has one. */
  #size: number | null = null;

  /** Checks the next bytes. Throws `protocol-error` for a bad header; do not call again after that. */
  check(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) at += this.#checkPart(bytes, at);
  }

  /** Returns how many bytes it consumed: at least one. */
  #checkPart(bytes: Buffer, at: number): number {
    const leftBytes = bytes.length - at;
    if (this.#pax !== null && this.#paxBytes < this.#pax.length) {
      const count = bytes.copy(this.#pax, this.#paxBytes, at);
      this.#paxBytes += count;
      if (this.#paxBytes === this.#pax.length) this.#readPax(this.#pax);
      return count;
    }
    if (this.#skippedBytes > 0) {
      const count = Math.min(this.#skippedBytes, leftBytes);
      this.#skippedBytes -= count;
      return count;
    }
    const count = bytes.copy(this.#block, this.#blockBytes, at);
    this.#blockBytes += count;
    if (this.#blockBytes === BLOCK_BYTES) {
      this.#blockBytes = 0;
      this.#readHeader(this.#block);
    }
    return count;
  }

  #readHeader(block: Buffer): void {
    this.#countHeader(BLOCK_BYTES);
    if (isEmpty(block)) return;
    const kind = String.fromCharCode(block[KIND_AT] ?? 0);
    if (kind === PAX_GLOBAL) throw refused('global pax headers are not supported');
    const size = readSize(block);
    if (kind === PAX || LONG_NAMES.has(kind)) {
      // tar-stream would take whatever follows for its contents.
      if (size === 0) throw refused('empty pax or long-name header');
      this.#countHeader(wholeBlocks(size));
      this.#skippedBytes = wholeBlocks(size) - (kind === PAX ? size : 0);
      if (kind !== PAX) return;
      this.#pax = Buffer.alloc(size);
      this.#paxBytes = 0;
      this.#size = null;
      return;
    }
    this.#skippedBytes = wholeBlocks(this.#size ?? size);
    this.#headerBytes = 0;
    this.#size = null;
  }

  #countHeader(bytes: number): void {
    this.#headerBytes += bytes;
    if (this.#headerBytes <= MAX_HEADER_BYTES) return;
    throw refused(`too many header bytes before an entry: ${this.#headerBytes} (max ${MAX_HEADER_BYTES})`);
  }

  /** Reads records of the form `LENGTH KEY=VALUE\n`, whose length covers the whole record. */
  #readPax(pax: Buffer): void {
    let count = 0;
    for (let at = 0; at < pax.length; ) {
      count += 1;
      if (count > MAX_PAX_KEYS) throw refused(`too many keys in a pax header (max ${MAX_PAX_KEYS})`);
      const space = pax.indexOf(SPACE, at);
      const digits = pax.toString('latin1', at, space === -1 ? at : space);
      const end = at + Number(digits);
      const equals = pax.indexOf(EQUALS, space);
      if (!/^[1-9]\d{0,5}$/.test(digits) || end > pax.length || pax[end - 1] !== LINE_FEED || equals === -1) {
        throw refused('malformed pax header');
      }
      if (equals >= end || equals === space + 1) throw refused('pax record without a key');
      if (pax.toString('latin1', space + 1, equals) === 'size') {
        this.#size = readPaxSize(pax.toString('latin1', equals + 1, end - 1));
      }
      at = end;
    }
    this.#pax = null;
  }
}

/** Whether a block is zero, as at the end of a tar: tar-stream ignores its checksum. */
const isEmpty = (block: Buffer): boolean =>
  block.every((byte, index) => byte === 0 || (index >= CHECKSUM_AT && index < KIND_AT));

/** Eleven octal digits and a terminator, or above 8 GiB a number in the last bytes. */
function readSize(block: Buffer): number {
  const field = block.subarray(SIZE_AT, SIZE_AT + SIZE_BYTES);
  const [, digits] = /^([0-7]{11})[ \0]$/.exec(field.toString('latin1')) ?? [];
  if (digits !== undefined) return Number.parseInt(digits, 8);
  const isNumber = field[0] === BASE_256 && field.subarray(1, 6).every((byte) => byte === 0);
  if (!isNumber) throw refused('entry size is not valid');
  return field.readUIntBE(6, 6);
}

function readPaxSize(text: string): number {
  const size = Number(text);
  if (!/^\d{1,16}$/.test(text) || !Number.isSafeInteger(size)) throw refused('entry size is not valid');
  return size;
}

const wholeBlocks = (bytes: number): number => Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;

const refused = (why: string): VproxyError => protocolError(`copy: the tar is not valid: ${why}`);
