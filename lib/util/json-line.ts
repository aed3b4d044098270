/** JSON that can be shown: one line, of which a terminal obeys nothing. */

/** A value as one line of JSON, without a newline. */
export function formatJsonLine(value: unknown): string {
  // JSON may hold these as they are, but a terminal would obey some of them.
  return JSON.stringify(value).replace(
    UNSAFE_IN_JSON,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

const UNSAFE_IN_JSON = /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;
