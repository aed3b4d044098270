/** What targets read, and how they judge: bytes that decide how the rest is used, the rest in every split, and what comes of it. */
import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import { type ErrorCode, VproxyError } from '../../lib/errors.js';

const MAX_SIZES = 7;

/** Reads an input from its start. Where nothing is left, every decision is the one for a zero. */
export class FuzzInput {
  readonly #bytes: Buffer;
  #at = 0;

  /** The input is not changed. */
  constructor(bytes: Uint8Array) {
    this.#bytes = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  byte(): number {
    const value = this.#bytes[this.#at] ?? 0;
    this.#at += 1;
    return value;
  }

  pick<T>(choices: readonly [T, ...T[]]): T {
    return choices[this.byte() % choices.length] ?? choices[0];
  }

  /** Sizes for `splitBySizes`: how many there are, then each, less one. */
  sizes(): number[] {
    const count = 1 + (this.byte() % MAX_SIZES);
    return Array.from({ length: count }, () => 1 + this.byte());
  }

  /** All that is left, copied. */
  rest(): Buffer {
    return Buffer.from(this.#bytes.subarray(Math.min(this.#at, this.#bytes.length)));
  }
}

/** The text of an input; what is not UTF-8 becomes U+FFFD. */
export const textOf = (bytes: Uint8Array): string => new FuzzInput(bytes).rest().toString('utf8');

/** Cuts bytes into chunks of the given sizes, repeatedly. Every chunk is a copy of its own. */
export function splitBySizes(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    chunks.push(Buffer.from(bytes.subarray(at, at + size)));
    at += size;
  }
  return chunks;
}

/** What a target compares: the bytes in one chunk, in chunks of the given sizes, and one by one. */
export function everySplit(bytes: Buffer, sizes: readonly number[]): readonly [Buffer[], Buffer[], Buffer[]] {
  return [splitBySizes(bytes, [Math.max(1, bytes.length)]), splitBySizes(bytes, sizes), splitBySizes(bytes, [1])];
}

/** Reads sizes and then the rest of an input, which means the same in every split; it gives what it means. */
export function alikeInSplits<T>(input: FuzzInput, read: (chunks: readonly Buffer[]) => T): T {
  const sizes = input.sizes();
  const [whole, ...others] = everySplit(input.rest(), sizes);
  const expected = read(whole);
  for (const chunks of others) assert.deepEqual(read(chunks), expected);
  return expected;
}

/** A value, or the code and message of an error. */
export type Outcome<T> = { readonly value: T } | { readonly code: string; readonly message: string };

/** No message is longer: it quotes bounded pieces of what was wrong. */
const MAX_MESSAGE_LENGTH = 8192;

// With one of these, a foreign text can forge a line or move the cursor.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|\p{Surrogate}/u;

/** Runs a parser. Throws where an error is not a VproxyError with one of `codes`, or has a text that it must not have. */
export function outcomeOf<T>(codes: readonly ErrorCode[], parse: () => T): Outcome<T> {
  try {
    return { value: parse() };
  } catch (error) {
    if (!(error instanceof VproxyError) || !codes.some((code) => code === error.code)) throw error;
    assertShowable(error.message);
    return { code: error.code, message: error.message };
  }
}

/** Throws where a text that quotes foreign ones is not safe in a line of the log. */
export function assertShowable(text: string): void {
  assert.doesNotMatch(text, UNSAFE);
  assert.ok(text.length <= MAX_MESSAGE_LENGTH, `a text for people has ${text.length} characters`);
}

/** A Duplex that records what is written to it, and whose readers get at once what `receive` and `finish` supply. */
export class LoopbackDuplex extends Duplex {
  readonly written: Buffer[] = [];

  receive(chunk: Buffer): void {
    this.emit('data', chunk);
  }

  finish(): void {
    this.emit('end');
  }

  override _read(): void {
    // What is read is supplied by `receive`.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.written.push(chunk);
    callback();
  }
}
