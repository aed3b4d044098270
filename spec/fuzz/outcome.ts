/** What a parser makes of an input: a value, or an error that is one of ours and fit to be shown. */
import assert from 'node:assert/strict';
import { type ErrorCode, VproxyError } from '../../lib/errors.js';

/** A value, or the code and message of an error. */
export type Outcome<T> = { readonly value: T } | { readonly code: string; readonly message: string };

/** No message is longer: it quotes bounded pieces of what was wrong. */
const MAX_MESSAGE_LENGTH = 8192;

// Where these come through, a foreign text can forge a line or move the cursor.
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]|\p{Surrogate}/u;

/** Runs a parser. Throws anything that is no VproxyError with one of `codes`, and what such an error must not say. */
export function outcomeOf<T>(codes: readonly ErrorCode[], parse: () => T): Outcome<T> {
  try {
    return { value: parse() };
  } catch (error) {
    if (!(error instanceof VproxyError) || !codes.some((code) => code === error.code)) throw error;
    assertShowable(error.message);
    return { code: error.code, message: error.message };
  }
}

/** Throws where a text that is made of foreign ones is not fit for a line of the log. */
export function assertShowable(text: string): void {
  assert.doesNotMatch(text, UNSAFE);
  assert.ok(text.length <= MAX_MESSAGE_LENGTH, `a text for people has ${text.length} characters`);
}
