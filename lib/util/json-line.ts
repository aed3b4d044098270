/** JSON that people may see: of what is foreign in it a terminal obeys nothing. */
import { OBEYED } from './escape.js';

/** Characters that are escaped at a time: each takes more memory than in the text, and a text may be all of them. */
const PIECE_LENGTH = 65_536;

/** A value as JSON without a newline at its end; on one line unless `indent` is given, in blanks. */
export function formatJson(value: unknown, indent = 0): string {
  // JSON.stringify escapes C0 and lone surrogates; the rest may be in JSON as it is.
  const text = JSON.stringify(value, null, indent);
  if (text.length <= PIECE_LENGTH) return escapeObeyed(text);
  const pieces: string[] = [];
  for (let at = 0; at < text.length; at += PIECE_LENGTH) pieces.push(escapeObeyed(text.slice(at, at + PIECE_LENGTH)));
  return pieces.join('');
}

/** A value as one line of JSON, without a newline. */
export const formatJsonLine = (value: unknown): string => formatJson(value);

const escapeObeyed = (text: string): string =>
  text.replace(UNSAFE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);

const UNSAFE = new RegExp(`[${OBEYED}]`, 'g');
