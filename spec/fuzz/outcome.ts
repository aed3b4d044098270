/** The result of a parser: a value, or an error with a code of vproxy's and a text that is safe to show. */
import assert from 'node:assert/strict';
import { type ErrorCode, VproxyError } from '../../lib/errors.js';

/** A value, or the code and message of an error. */
export type Outcome<T> = { readonly value: T } | { readonly code: string; readonly message: string };

/** No message is longer: it quotes bounded pieces of what was wrong. */
const MAX_MESSAGE_LENGTH = 8192;

// With one of these, a foreign text can forge a line or move the cursor.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|\p{Surrogate}/u;

/**
 * Runs a parser. Throws where an error is not a VproxyError with one of `codes`, or has a text that it must not have.
 */
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
