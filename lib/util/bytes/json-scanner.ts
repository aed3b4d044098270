/** Splits a byte stream into messages: JSON objects, however they are fragmented, joined or terminated. */
import { type ErrorCode, VproxyError } from '../../errors.js';

const LINE_FEED = 0x0a;
const QUOTE = 0x22;
const COMMA = 0x2c;
const OPENING_BRACE = 0x7b;
const CLOSING_BRACE = 0x7d;
const CLOSING_BRACKET = 0x5d;

/**
 * Limit on commas, opening braces and opening brackets in an object, outside strings, whatever its length. A value of three bytes
 * takes seventy in memory and much time: a reply of maximum length could block the process for a quarter of a minute, and fill
 * its memory.
 */
export const MAX_SIGNS = 65_536;

/** Limit on the depth of nesting: deeply nested values take `JSON.parse` twenty times as long as flat ones. */
const MAX_NESTED = 1000;

/** The scanner's position: between messages, in an object, in a string, after a backslash in one, or in a line. */
type ScannerState = 'between' | 'object' | 'string' | 'escape' | 'line';

/**
 * The next byte that matters in each state, as latin1. A loop over the bytes would be slow in a process that has just
 * started, such as the wrapper, which reads replies of hundreds of kilobytes.
 */
const NEXT: Readonly<Record<Exclude<ScannerState, 'string'>, RegExp>> = {
  between: /[^ \t\r\n]/g,
  object: /["{}[\],]/g,
  escape: /[^]/g,
  line: /\n/g,
};

/**
 * An incremental scanner. A message ends with the brace that closes a top-level object (which may span lines), otherwise at the
 * end of the line or the stream; white space between messages is dropped. A message need not be valid JSON: a line that is not an
 * object, or an object with a line feed in a string, is a message, too, for its reader to reject. The messages do not depend on
 * how the bytes were split.
 */
export class JsonScanner {
  readonly #maxBytes: number;
  readonly #code: ErrorCode;
  readonly #subject: string;
  #buffer = Buffer.alloc(0);
  #start = 0;
  #position = 0;
  #length = 0;
  /** The bytes from `#textStart` on that were pushed last. */
  #text = '';
  #textStart = 0;
  /** The next line feed in `#text`; -1: none. */
  #lineEnd = -1;
  #state: ScannerState = 'between';
  #depth = 0;
  /** The open braces and brackets of an object. */
  #nested = 0;
  #signCount = 0;

  /**
   * For a message of more than `maxBytes`, and for an object of more than `MAX_SIGNS` signs or nested too deeply, `next` and `end`
   * throw a VproxyError of this code, with `subject` in its message.
   */
  constructor(maxBytes: number, code: ErrorCode, subject: string) {
    this.#maxBytes = maxBytes;
    this.#code = code;
    this.#subject = subject;
  }

  /** Whether no unfinished or untaken message is held. Ask after `next` returned undefined. */
  get isEmpty(): boolean {
    return this.#state === 'between' && this.#position === this.#length;
  }

  /** The bytes of unfinished or untaken messages, until the next call. */
  get held(): Buffer {
    return this.#buffer.subarray(this.#start, this.#length);
  }

  /** Adds a copy of bytes. Take all messages with `next` before adding more, to keep the buffer bounded. */
  push(chunk: Uint8Array): void {
    const held = this.#length - this.#start;
    const needed = held + chunk.length;
    if (this.#start > 0 || needed > this.#buffer.length) {
      const target = needed > this.#buffer.length ? Buffer.allocUnsafe(Math.max(needed, 2 * held)) : this.#buffer;
      this.#buffer.copy(target, 0, this.#start, this.#length);
      this.#buffer = target;
      this.#position -= this.#start;
      this.#start = 0;
    }
    this.#buffer.set(chunk, held);
    this.#length = needed;
    this.#textStart = this.#position;
    this.#text = this.#buffer.toString('latin1', this.#position, needed);
    this.#lineEnd = this.#text.indexOf('\n');
  }

  /** The next complete message (the caller owns it), or undefined while none is complete. */
  next(): Buffer | undefined {
    while (this.#find()) {
      const byte = this.#buffer[this.#position];
      switch (this.#state) {
        case 'between':
          this.#start = this.#position;
          this.#state = byte === OPENING_BRACE ? 'object' : 'line';
          this.#depth = this.#nested = this.#signCount = 1;
          break;
        case 'object':
          if (byte === QUOTE) this.#state = 'string';
          else if (byte === CLOSING_BRACE || byte === CLOSING_BRACKET) {
            this.#nested -= 1;
            if (byte === CLOSING_BRACE && --this.#depth === 0) return this.#take(this.#position + 1);
          } else {
            if (byte === OPENING_BRACE) this.#depth += 1;
            this.#countSign(byte !== COMMA);
          }
          break;
        case 'string':
          // Valid JSON has no raw line feed in a string: it ends a broken message, and the next one can be read.
          if (byte === LINE_FEED) return this.#take(this.#position);
          this.#state = 'object';
          break;
        case 'escape':
          if (byte === LINE_FEED) return this.#take(this.#position);
          this.#state = 'string';
          break;
        case 'line':
          return this.#take(this.#position);
      }
      this.#position += 1;
    }
    if (this.#state === 'between') this.#start = this.#length;
    this.#check(this.#length);
    if (this.#start === this.#length) this.#forget();
    return undefined;
  }

  /** Advances to the next byte that matters in this state, or to the end. Returns whether it found one. */
  #find(): boolean {
    const from = this.#position - this.#textStart;
    const found = this.#state === 'string' ? this.#findStringEnd(from) : search(NEXT[this.#state], this.#text, from);
    this.#position = found === -1 ? this.#length : this.#textStart + found;
    return found !== -1;
  }

  /** Finds the quote that ends a string, or a line feed before it. A backslash at the end leaves its state. */
  #findStringEnd(from: number): number {
    const text = this.#text;
    if (this.#lineEnd !== -1 && this.#lineEnd < from) this.#lineEnd = text.indexOf('\n', from);
    let quote = text.indexOf('"', from);
    while (quote !== -1 && isEscaped(text, quote, from)) quote = text.indexOf('"', quote + 1);
    if (this.#lineEnd !== -1 && (quote === -1 || this.#lineEnd < quote)) return this.#lineEnd;
    if (quote === -1 && isEscaped(text, text.length, from)) this.#state = 'escape';
    return quote;
  }

  /** At the end of the stream: the rest as a last message, or undefined. Call it after `next` returned undefined. */
  end(): Buffer | undefined {
    return this.isEmpty ? undefined : this.#take(this.#length);
  }

  #take(end: number): Buffer {
    this.#check(end);
    const message = Buffer.from(this.#buffer.subarray(this.#start, end));
    this.#start = end;
    this.#position = end;
    this.#state = 'between';
    return message;
  }

  #countSign(opens: boolean): void {
    this.#signCount += 1;
    if (opens) this.#nested += 1;
    if (this.#signCount <= MAX_SIGNS && this.#nested <= MAX_NESTED) return;
    this.#check(this.#position + 1);
    const what =
      this.#nested > MAX_NESTED
        ? `is nested deeper than ${MAX_NESTED}`
        : `has more than ${MAX_SIGNS} commas, braces and brackets`;
    throw new VproxyError(this.#code, `${this.#subject} ${what}`);
  }

  #check(end: number): void {
    if (end - this.#start <= this.#maxBytes) return;
    throw new VproxyError(this.#code, `${this.#subject} exceeds ${this.#maxBytes} bytes`);
  }

  /** Releases a buffer that one long message made large. */
  #forget(): void {
    this.#buffer = Buffer.alloc(0);
    this.#text = '';
    this.#start = this.#position = this.#length = 0;
  }
}

function search(pattern: RegExp, text: string, from: number): number {
  pattern.lastIndex = from;
  return pattern.test(text) ? pattern.lastIndex - 1 : -1;
}

/** Whether an odd number of backslashes is in front of the position. */
function isEscaped(text: string, position: number, from: number): boolean {
  let start = position;
  while (start > from && text[start - 1] === '\\') start -= 1;
  return (position - start) % 2 === 1;
}
