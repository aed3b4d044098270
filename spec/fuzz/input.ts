/** Input and checks of targets: bytes that decide how the rest is used, the rest in every split, and comparison of results. */
import assert from 'node:assert/strict';
import { Duplex } from 'node:stream';
import { type ErrorCode, VproxyError } from '../../lib/errors.js';

const MAX_SIZES = 7;

/** Reads an input from its start. At its end, every decision is the one for a zero. */
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

  /** A copy of the rest. */
  rest(): Buffer {
    return Buffer.from(this.#bytes.subarray(Math.min(this.#at, this.#bytes.length)));
  }
}

/** The text of an input; invalid UTF-8 becomes U+FFFD. */
export const textOf = (bytes: Uint8Array): string => new FuzzInput(bytes).rest().toString('utf8');

/** Cuts bytes into chunks of the given sizes, repeatedly. Every chunk is a separate copy. */
export function splitBySizes(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  for (let at = 0, turn = 0; at < bytes.length; turn += 1) {
    const size = sizes[turn % sizes.length] ?? 1;
    chunks.push(Buffer.from(bytes.subarray(at, at + size)));
    at += size;
  }
  return chunks;
}

/** The splits that a target compares: one chunk, chunks of the given sizes, and single bytes. */
export function everySplit(bytes: Buffer, sizes: readonly number[]): readonly [Buffer[], Buffer[], Buffer[]] {
  return [splitBySizes(bytes, [Math.max(1, bytes.length)]), splitBySizes(bytes, sizes), splitBySizes(bytes, [1])];
}

/** Reads sizes and then the rest of an input, checks that every split has the same result, and returns it. */
export function alikeInSplits<T>(input: FuzzInput, read: (chunks: readonly Buffer[]) => T): T {
  const sizes = input.sizes();
  const [whole, ...others] = everySplit(input.rest(), sizes);
  const expected = read(whole);
  for (const chunks of others) assert.deepEqual(read(chunks), expected);
  return expected;
}

/** A value, or the code and message of an error. */
export type Outcome<T> = { readonly value: T } | { readonly code: string; readonly message: string };

/** Limit on a message, which quotes only bounded pieces of its input. */
const MAX_MESSAGE_LENGTH = 8192;

// With one of these, a foreign text can forge a line or move the cursor.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|\p{Surrogate}/u;

/** Runs a parser. Throws if an error is not a VproxyError with one of `codes`, or has an unsafe text. */
export function outcomeOf<T>(codes: readonly ErrorCode[], parse: () => T): Outcome<T> {
  try {
    return { value: parse() };
  } catch (error) {
    if (!(error instanceof VproxyError) || !codes.some((code) => code === error.code)) throw error;
    assertShowable(error.message);
    return { code: error.code, message: error.message };
  }
}

/** Throws if a text that quotes foreign ones is not safe in a log line. */
export function assertShowable(text: string): void {
  assert.doesNotMatch(text, UNSAFE);
  assert.ok(text.length <= MAX_MESSAGE_LENGTH, `a text for people has ${text.length} characters`);
}

/** A Duplex that records writes, and whose readers get at once what `receive` and `finish` supply. */
export class LoopbackDuplex extends Duplex {
  readonly written: Buffer[] = [];

  receive(chunk: Buffer): void {
    this.emit('data', chunk);
  }

  finish(): void {
    this.emit('end');
  }

  override _read(): void {
    // `receive` supplies the data.
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, callback: () => void): void {
    this.written.push(chunk);
    callback();
  }
}
