/** Cuts a stream of bytes into messages: JSON objects, however they are split, joined or terminated. */
import { type ErrorCode, VproxyError } from '../../errors.js';

const TAB = 0x09;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
const SPACE = 0x20;
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const OPENING_BRACE = 0x7b;
const CLOSING_BRACE = 0x7d;
const OPENING_BRACKET = 0x5b;
const COMMA = 0x2c;

/**
 * The most commas, opening braces and opening brackets in an object, outside its texts and whatever its length. A value
 * of three bytes takes seventy in memory and much time: a reply of the greatest length could hold up the process for a
 * quarter of a minute, and fill its memory.
 */
export const MAX_SIGNS = 65_536;

/** Where the scanner is: between messages, in an object, in a string of it, after a backslash there, in a line. */
type ScannerState = 'between' | 'object' | 'string' | 'escape' | 'line';

/**
 * An incremental scanner. A message ends with the brace that closes a top-level object (which may span lines), else
 * with the line, else with the stream; white space between messages is dropped. What it yields need not be valid JSON:
 * a line that is no object, or an object whose string is broken by a line feed, is a message too, for its reader to
 * refuse. It yields the same messages however the bytes were split.
 */
export class JsonScanner {
  readonly #maxBytes: number;
  readonly #code: ErrorCode;
  readonly #subject: string;
  #buffer = Buffer.alloc(0);
  #start = 0;
  #position = 0;
  #length = 0;
  #state: ScannerState = 'between';
  #depth = 0;
  #signCount = 0;

  /**
   * A message of more than `maxBytes`, or an object of more than `MAX_SIGNS` signs, makes `next` and `end` throw a VproxyError
   * of this code, which says so of `subject`.
   */
  constructor(maxBytes: number, code: ErrorCode, subject: string) {
    this.#maxBytes = maxBytes;
    this.#code = code;
    this.#subject = subject;
  }

  /** Whether no byte of an unfinished or untaken message is held. Ask after `next` gave nothing. */
  get isEmpty(): boolean {
    return this.#state === 'between' && this.#position === this.#length;
  }

  /** How many bytes of unfinished or untaken messages are held. */
  get heldBytes(): number {
    return this.#length - this.#start;
  }

  /** Adds bytes; they are copied. Take all messages with `next` before adding more, so that what is held is bounded. */
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
  }

  /** The next complete message (the caller owns it), or undefined while none is complete. */
  next(): Buffer | undefined {
    while (this.#position < this.#length) {
      const byte = this.#buffer[this.#position];
      switch (this.#state) {
        case 'between':
          if (byte === SPACE || byte === LINE_FEED || byte === CARRIAGE_RETURN || byte === TAB) {
            this.#start = this.#position + 1;
          } else if (byte === OPENING_BRACE) {
            this.#state = 'object';
            this.#depth = 1;
            this.#signCount = 1;
          } else {
            this.#state = 'line';
          }
          break;
        case 'object':
          if (byte === QUOTE) this.#state = 'string';
          else if (byte === COMMA || byte === OPENING_BRACKET) this.#countSign();
          else if (byte === OPENING_BRACE) {
            this.#depth += 1;
            this.#countSign();
          } else if (byte === CLOSING_BRACE && --this.#depth === 0) return this.#take(this.#position + 1);
          break;
        case 'string':
          // No valid JSON has a raw line feed in a string: it ends a broken message, and the next one can be read.
          if (byte === LINE_FEED) return this.#take(this.#position);
          if (byte === QUOTE) this.#state = 'object';
          else if (byte === BACKSLASH) this.#state = 'escape';
          break;
        case 'escape':
          if (byte === LINE_FEED) return this.#take(this.#position);
          this.#state = 'string';
          break;
        case 'line':
          if (byte === LINE_FEED) return this.#take(this.#position);
          break;
      }
      this.#position += 1;
    }
    this.#check(this.#length);
    if (this.#start === this.#length) this.#forget();
    return undefined;
  }

  /** The stream has ended: what is left of it as a last message, or undefined. Call after `next` gave nothing. */
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

  #countSign(): void {
    this.#signCount += 1;
    if (this.#signCount <= MAX_SIGNS) return;
    this.#check(this.#position + 1);
    throw new VproxyError(this.#code, `${this.#subject} has more than ${MAX_SIGNS} commas, braces and brackets`);
  }

  #check(end: number): void {
    if (end - this.#start <= this.#maxBytes) return;
    throw new VproxyError(this.#code, `${this.#subject} exceeds ${this.#maxBytes} bytes`);
  }

  /** Lets go of a buffer that one long message made large. */
  #forget(): void {
    this.#buffer = Buffer.alloc(0);
    this.#start = this.#position = this.#length = 0;
  }
}
