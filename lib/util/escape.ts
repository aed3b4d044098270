/** Makes foreign text safe to show, as text, as JSON and for a shell: nothing in it can move the cursor, forge a line, or fill a screen. */
import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { meaningOf } from './errno.js';

/**
 * A text with every control character, line separator, lone surrogate and bidirectional override shown as `\xNN` or
 * `\u{NNNN}`, a backslash doubled, and cut to `maxLength` characters with an ellipsis.
 */
export function escapeText(text: string, maxLength = 256): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  if (!UNSAFE.test(cut)) return cut;
  let shown = '';
  for (const character of cut) shown += SHOWN_BYTES[character.charCodeAt(0)] ?? showCharacter(character);
  return shown;
}

function showCharacter(character: string): string {
  if (!UNSAFE.test(character)) return character;
  if (character === '\\') return '\\\\';
  if (character === '\n') return '\\n';
  if (character === '\t') return '\\t';
  const code = character.codePointAt(0) ?? 0;
  return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
}

/** What a terminal may obey besides C0, as a part of a class of characters: DEL, C1, zero-width and bidirectional controls, line separators, BOM. */
const OBEYED = '\\u007f-\\u009f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff';

// C0, the backslash, and surrogates, too.
const UNSAFE = new RegExp(`[\\u0000-\\u001f\\\\${OBEYED}\\p{Surrogate}]`, 'u');

/** The characters below 256 as they are shown: where there is one of the unsafe, there may be 60,000. */
const SHOWN_BYTES = Array.from({ length: 256 }, (_, code) => showCharacter(String.fromCharCode(code)));

// JSON that people may see: of what is foreign in it a terminal obeys nothing.

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
  text.replace(UNSAFE_IN_JSON, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`);

const UNSAFE_IN_JSON = new RegExp(`[${OBEYED}]`, 'g');

// A text as one word of a shell.

/** Words that every shell takes as they are; zsh replaces one that begins with an equals sign. */
const PLAIN_WORD = /^[\w@%+:,./-][\w@%+=:,./-]*$/;

/** For sh, bash and zsh. */
export function quoteWord(text: string): string {
  return PLAIN_WORD.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// The text of an error of the system, for a message.

/**
 * What the system said, in one line: `permission denied (EACCES)`, `nobody listens there (ECONNREFUSED 192.0.2.1:80)`. Of an
 * error of the system the caller names the file. Several attempts at one name come as an AggregateError without a message.
 */
export function describeError(error: unknown): string {
  if (error instanceof AggregateError) return error.errors.map(describeError).join('; ');
  if (!(error instanceof Error)) return String(error);
  const { code, syscall, address, port }: SystemError = error;
  const words = typeof code === 'string' ? wordsOf(code) : undefined;
  if (typeof code !== 'string' || words === undefined) return error.message;
  const place = typeof address === 'string' && typeof port === 'number' ? ` ${showPlace(address, port)}` : '';
  const isProgram = code === 'ENOENT' && typeof syscall === 'string' && syscall.startsWith('spawn');
  return `${isProgram ? 'there is no such program' : words} (${code}${place})`;
}

/** What a code of the system means; undefined for one that is none. */
function wordsOf(code: string): string | undefined {
  const numbers: Readonly<Partial<Record<string, number>>> = constants.errno;
  const number = Object.hasOwn(numbers, code) ? numbers[code] : undefined;
  return meaningOf(code).words ?? (number === undefined ? undefined : getSystemErrorMap().get(-number)?.[1]);
}

/** What Node adds to an error of the system. */
interface SystemError extends Error {
  readonly code?: unknown;
  readonly syscall?: unknown;
  readonly address?: unknown;
  readonly port?: unknown;
}

const showPlace = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
