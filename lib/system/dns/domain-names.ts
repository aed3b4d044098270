/** Domain names as DNS messages have them (RFC 1035, sections 3.1 and 4.1.4), and the bytes of a message being written, with names that point back. */
import { VproxyError } from '../../errors.js';

/** A name in its wire form, without pointers and as it was spelled: labels with their lengths before them, and a zero. 1 to 255 bytes. */
export type DomainName = Buffer;

/** RFC 1035, section 2.3.4. */
const MAX_NAME_BYTES = 255;
const MAX_LABEL_BYTES = 63;

/** A name has no more labels; so more pointers in a row lead nowhere. */
const MAX_POINTERS = 127;

/** The two highest bits of a length that is a pointer. */
const POINTER = 0xc0;
const POINTER_16 = 0xc000;

/** Offsets beyond this number do not fit a pointer. */
const MAX_POINTED = 0x3fff;

/** What is wrong with a message of DNS. */
export const malformed = (what: string): VproxyError => new VproxyError('protocol-error', `a DNS message with ${what}`);

/** The name at `start` of a message, and where what follows it begins. A pointer leads to before the labels that it follows, so none can loop. Throws `protocol-error`. */
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
      if (target >= runStart || pointers > MAX_POINTERS) throw malformed('a pointer that does not lead back');
      runStart = target;
      at = target;
      continue;
    }
    if (length > MAX_LABEL_BYTES) throw malformed('a label of an unknown kind');
    // Behind a label there is at least the root's.
    if (byteCount + 1 + length + Number(length > 0) > MAX_NAME_BYTES) throw malformed('a name of more than 255 bytes');
    for (const labelEnd = at + length; at <= labelEnd; at += 1, byteCount += 1) READ[byteCount] = byteAt(message, at);
    if (length === 0) return { name: Buffer.from(READ.subarray(0, byteCount)), end: end ?? at };
  }
}

/** The name that is being read: many short labels are copied byte by byte. */
const READ = Buffer.alloc(MAX_NAME_BYTES);

function byteAt(message: Buffer, at: number): number {
  const byte = message[at];
  if (byte === undefined) throw malformed('a name that is cut off');
  return byte;
}

/** The labels of a name, without their lengths and without the root's. */
export function labelsOf(name: DomainName): Buffer[] {
  const labels: Buffer[] = [];
  for (let at = 0, length = name[0] ?? 0; length > 0; length = name[at] ?? 0) {
    labels.push(name.subarray(at + 1, at + 1 + length));
    at += 1 + length;
  }
  return labels;
}

/** One text for all spellings of a name: letters of ASCII count alike in both cases (RFC 4343), other bytes are what they are. */
export function keyOf(name: DomainName): string {
  return name.toString('latin1').replace(/[A-Z]+/g, (letters) => letters.toLowerCase());
}

/** A name as the names of hosts are written, in lower case and without a final dot; null for the root, and where a byte is none of `a-z`, `0-9`, `_` and `-`. */
export function hostOf(name: DomainName): string | null {
  const labels = labelsOf(name).map((label) => label.toString('latin1'));
  return labels.length > 0 && labels.every((label) => /^[\w-]+$/.test(label)) ? labels.join('.').toLowerCase() : null;
}

/** A name for people, with a final dot; bytes that are none of a host's name are shown as `\DDD` (RFC 1035, section 5.1). */
export function formatName(name: DomainName): string {
  const labels = labelsOf(name).map((label) =>
    label.toString('latin1').replace(/[^\w-]/g, (byte) => `\\${String(byte.charCodeAt(0)).padStart(3, '0')}`),
  );
  return `${labels.join('.')}.`;
}

/** The name of a host's text, with or without a final dot; null where it is none. */
export function parseName(text: string): DomainName | null {
  const labels = text.replace(/\.$/, '').split('.');
  if (!labels.every((label) => /^[\w-]{1,63}$/.test(label))) return null;
  const name = Buffer.from(
    `${labels.map((label) => `${String.fromCharCode(label.length)}${label}`).join('')}\0`,
    'latin1',
  );
  return name.length > MAX_NAME_BYTES ? null : name;
}

/** A message that is being written. */
export class MessageWriter {
  readonly #pieces: Buffer[] = [];
  #byteCount = 0;
  /** Where the names are that were written, each with all that follow from a label of it on. */
  readonly #offsets = new Map<string, number>();

  get byteCount(): number {
    return this.#byteCount;
  }

  /** Bytes as they are. */
  bytes(bytes: Buffer): void {
    this.#pieces.push(bytes);
    this.#byteCount += bytes.length;
  }

  /** Numbers of 16 bits. */
  words(...words: readonly number[]): void {
    const bytes = Buffer.alloc(2 * words.length);
    for (const [index, word] of words.entries()) bytes.writeUInt16BE(word, 2 * index);
    this.bytes(bytes);
  }

  /** A number of 32 bits. */
  long(value: number): void {
    this.words(value >>> 16, value & 0xffff);
  }

  /** A name, which ends with a pointer to what was written in the same spelling. */
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

  /** What `write` writes, with its length in bytes before it. */
  measured(write: () => void): void {
    const length = Buffer.alloc(2);
    this.bytes(length);
    const start = this.#byteCount;
    write();
    const byteCount = this.#byteCount - start;
    // What is longer makes the message longer than any may be, and it is not sent.
    length.writeUInt16BE(byteCount & 0xffff);
  }

  end(): Buffer {
    return Buffer.concat(this.#pieces, this.#byteCount);
  }
}
