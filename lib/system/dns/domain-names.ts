/** Domain names in wire format (RFC 1035, sections 3.1 and 4.1.4), and a writer of messages that compresses names. */
import { protocolError, type VproxyError } from '../../errors.js';

/** A name in wire form, without pointers and in its original spelling: labels with length bytes, and a zero. 1 to 255 bytes. */
export type DomainName = Buffer;

/** RFC 1035, section 2.3.4. */
const MAX_NAME_BYTES = 255;
const MAX_LABEL_BYTES = 63;

/** The most labels that a name can have; longer chains of pointers lead nowhere. */
const MAX_POINTERS = 127;

/** The two highest bits of a length byte that marks a pointer. */
const POINTER = 0xc0;
const POINTER_16 = 0xc000;

/** The largest offset that fits in a pointer. */
const MAX_POINTED = 0x3fff;

export const malformed = (what: string): VproxyError => protocolError(`malformed DNS message: ${what}`);

/** Reads the name at `start`. A pointer must lead to before the labels it follows, so none can loop. Throws `protocol-error`. */
export function readName(message: Buffer, start: number): { readonly name: DomainName; readonly end: number } {
  let byteCount = 0;
  let at = start;
  let runStart = start;
  let end: number | null = null;
  for (let pointers = 0; ; ) {
    const length = byteAt(message, at);
    if (length >= POINTER) {
      const target = ((length - POINTER) << 8) | byteAt(message, at + 1);
      end ??= at + 2;
      pointers += 1;
      if (target >= runStart || pointers > MAX_POINTERS) throw malformed('pointer does not point back');
      runStart = target;
      at = target;
      continue;
    }
    if (length > MAX_LABEL_BYTES) throw malformed('unknown label type');
    // A label is followed at least by the root's.
    if (byteCount + 1 + length + Number(length > 0) > MAX_NAME_BYTES) throw malformed('name longer than 255 bytes');
    for (const labelEnd = at + length; at <= labelEnd; at += 1, byteCount += 1) READ[byteCount] = byteAt(message, at);
    if (length === 0) return { name: Buffer.from(READ.subarray(0, byteCount)), end: end ?? at };
  }
}

/** The name being read: many short labels are copied byte by byte. */
const READ = Buffer.alloc(MAX_NAME_BYTES);

function byteAt(message: Buffer, at: number): number {
  const byte = message[at];
  if (byte === undefined) throw malformed('truncated name');
  return byte;
}

/** The labels of a name, without length bytes and without the root's. */
export function labelsOf(name: DomainName): Buffer[] {
  const labels: Buffer[] = [];
  for (let at = 0, length = name[0] ?? 0; length > 0; length = name[at] ?? 0) {
    labels.push(name.subarray(at + 1, at + 1 + length));
    at += 1 + length;
  }
  return labels;
}

/** The same text for all spellings of a name: only ASCII letters are case-insensitive (RFC 4343). */
export function keyOf(name: DomainName): string {
  return name.toString('latin1').replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/** A name as a host name, in lower case without a final dot; null for the root, or with bytes other than `a-z0-9_-`. */
export function hostOf(name: DomainName): string | null {
  const labels = labelsOf(name).map((label) => label.toString('latin1'));
  return labels.length > 0 && labels.every((label) => /^[\w-]+$/.test(label)) ? labels.join('.').toLowerCase() : null;
}

/** A human-readable name with a final dot; bytes not allowed in host names become `\DDD` (RFC 1035, section 5.1). */
export function formatName(name: DomainName): string {
  const labels = labelsOf(name).map((label) =>
    label.toString('latin1').replace(/[^\w-]/g, (byte) => `\\${String(byte.charCodeAt(0)).padStart(3, '0')}`),
  );
  return `${labels.join('.')}.`;
}

/** Parses a host name, with or without a final dot; null if it is not valid. */
export function parseName(text: string): DomainName | null {
  const labels = text.replace(/\.$/, '').split('.');
  if (!labels.every((label) => /^[\w-]{1,63}$/.test(label))) return null;
  const name = Buffer.from(
    `${labels.map((label) => `${String.fromCharCode(label.length)}${label}`).join('')}\0`,
    'latin1',
  );
  return name.length > MAX_NAME_BYTES ? null : name;
}

export class MessageWriter {
  readonly #pieces: Buffer[] = [];
  #byteCount = 0;
  /** The offsets of the names written, and of each of their suffixes. */
  readonly #offsets = new Map<string, number>();

  get byteCount(): number {
    return this.#byteCount;
  }

  /** Writes bytes unchanged. */
  bytes(bytes: Buffer): void {
    this.#pieces.push(bytes);
    this.#byteCount += bytes.length;
  }

  /** Writes 16-bit numbers. */
  words(...words: readonly number[]): void {
    const bytes = Buffer.alloc(2 * words.length);
    for (const [index, word] of words.entries()) bytes.writeUInt16BE(word, 2 * index);
    this.bytes(bytes);
  }

  /** Writes a 32-bit number. */
  long(value: number): void {
    this.words(value >>> 16, value & 0xffff);
  }

  /** Writes a name, ending in a pointer to a suffix written before in the same spelling. */
  name(name: DomainName): void {
    const text = name.toString('latin1');
    let at = 0;
    for (let length = name[0] ?? 0; length > 0; length = name[at] ?? 0) {
      const rest = text.slice(at);
      const offset = this.#offsets.get(rest);
      if (offset !== undefined) {
        this.words(POINTER_16 | offset);
        return;
      }
      if (this.#byteCount <= MAX_POINTED) this.#offsets.set(rest, this.#byteCount);
      this.bytes(name.subarray(at, at + 1 + length));
      at += 1 + length;
    }
    this.bytes(name.subarray(at));
  }

  /** Writes what `write` writes, preceded by its length in bytes. */
  measured(write: () => void): void {
    const length = Buffer.alloc(2);
    this.bytes(length);
    const start = this.#byteCount;
    write();
    const byteCount = this.#byteCount - start;
    // Anything longer exceeds the size of any message, which is then not sent.
    length.writeUInt16BE(byteCount & 0xffff);
  }

  end(): Buffer {
    return Buffer.concat(this.#pieces, this.#byteCount);
  }
}
