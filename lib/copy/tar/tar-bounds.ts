/** The headers of a tar, checked before tar-stream sees them: tar-stream parses, and keeps, as much as any length says. */
import { VproxyError } from '../../errors.js';

const BLOCK_BYTES = 512;

/**
 * The number of bytes that may come before an entry, or after the last one: headers of pax with the two longest paths,
 * and padding.
 */
export const MAX_HEADER_BYTES = 16_384;

export const MAX_PAX_KEYS = 64;

/** Kinds of headers: those with the names and other attributes of the entry after them; K, L and N are of GNU tar. */
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
 * Follows a tar from header to header. It is stricter than tar-stream, so that both see the same headers: a size has
 * one of the two forms that are written, each record of pax has its length. {@link parseHeader} checks the entries
 * themselves.
 */
export class TarBounds {
  readonly #block = Buffer.alloc(BLOCK_BYTES);
  #blockBytes = 0;
  /** The bytes to skip: the contents of an entry or of a long name, and what fills a block. */
  #skippedBytes = 0;
  /** A header of pax that is not complete; else null. */
  #pax: Buffer | null = null;
  #paxBytes = 0;
  /** How much has come since the last entry. */
  #headerBytes = 0;
  /** The size of the next entry in its header of pax. */
  #size: number | null = null;

  /** Looks at the next bytes. Throws `protocol-error` for a header that is refused; nothing may follow then. */
  check(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) at += this.#take(bytes, at);
  }

  /** Returns how many were taken: at least one. */
  #take(bytes: Buffer, at: number): number {
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
    if (kind === PAX_GLOBAL) throw refused('a global header of pax is not taken');
    const size = readSize(block);
    if (kind === PAX || LONG_NAMES.has(kind)) {
      // tar-stream would take what follows it for its contents.
      if (size === 0) throw refused('a header of pax, or of a long name, is empty');
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
    throw refused(`${this.#headerBytes} bytes without an entry, expected at most ${MAX_HEADER_BYTES}`);
  }

  /** `LENGTH KEY=VALUE\n`, as often as there is room; the length is that of all of it. */
  #readPax(pax: Buffer): void {
    let count = 0;
    for (let at = 0; at < pax.length; ) {
      count += 1;
      if (count > MAX_PAX_KEYS) throw refused(`a header of pax with more than ${MAX_PAX_KEYS} keys`);
      const space = pax.indexOf(SPACE, at);
      const digits = pax.toString('latin1', at, space === -1 ? at : space);
      const end = at + Number(digits);
      const equals = pax.indexOf(EQUALS, space);
      if (!/^[1-9]\d{0,5}$/.test(digits) || end > pax.length || pax[end - 1] !== LINE_FEED || equals === -1) {
        throw refused('a header of pax is not valid');
      }
      if (equals >= end || equals === space + 1) throw refused('a header of pax has a record without a key');
      if (pax.toString('latin1', space + 1, equals) === 'size') {
        this.#size = readPaxSize(pax.toString('latin1', equals + 1, end - 1));
      }
      at = end;
    }
    this.#pax = null;
  }
}

/** Of a block that ends a tar: tar-stream does not look at its checksum. */
const isEmpty = (block: Buffer): boolean =>
  block.every((byte, index) => byte === 0 || (index >= CHECKSUM_AT && index < KIND_AT));

/** Eleven octal digits and an end, or above 8 GiB a number in its last bytes. */
function readSize(block: Buffer): number {
  const field = block.subarray(SIZE_AT, SIZE_AT + SIZE_BYTES);
  const [, digits] = /^([0-7]{11})[ \0]$/.exec(field.toString('latin1')) ?? [];
  if (digits !== undefined) return Number.parseInt(digits, 8);
  const isNumber = field[0] === BASE_256 && field.subarray(1, 6).every((byte) => byte === 0);
  if (!isNumber) throw refused('the size of an entry is not valid');
  return field.readUIntBE(6, 6);
}

function readPaxSize(text: string): number {
  const size = Number(text);
  if (!/^\d{1,16}$/.test(text) || !Number.isSafeInteger(size)) throw refused('the size of an entry is not valid');
  return size;
}

const wholeBlocks = (bytes: number): number => Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;

const refused = (why: string): VproxyError => new VproxyError('protocol-error', `copy: the tar is not valid: ${why}`);
