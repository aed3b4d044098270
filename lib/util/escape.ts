/** Makes foreign text safe to show, as text, JSON and for a shell: it cannot move the cursor, forge a line or fill a screen. */
import { constants } from 'node:os';
import { getSystemErrorMap } from 'node:util';
import { meaningOf } from '../system-errors.js';

/**
 * Shows control characters, line separators, lone surrogates and bidirectional overrides as `\xNN` or `\u{NNNN}`, doubles
 * backslashes, and cuts the text to `maxLength` characters with an ellipsis.
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

/** Characters besides C0 that a terminal may obey: DEL, C1, zero-width and bidirectional controls, line separators, BOM. */
const OBEYED = '\\u007f-\\u009f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff';

// Also C0, the backslash, and surrogates.
const UNSAFE = new RegExp(`[\\u0000-\\u001f\\\\${OBEYED}\\p{Surrogate}]`, 'u');

/** The characters below 256 as shown, precomputed: an unsafe text may have 60,000 of them. */
const SHOWN_BYTES = Array.from({ length: 256 }, (_, code) => showCharacter(String.fromCharCode(code)));

// JSON shown to users: nothing foreign in it controls the terminal.

/** Characters escaped at a time: each takes more memory than in the text, and may need escaping. */
const PIECE_LENGTH = 65_536;

/** A value as JSON without a trailing newline; on one line unless `indent`, in spaces, is given. */
export function formatJson(value: unknown, indent = 0): string {
  // JSON.stringify escapes C0 and lone surrogates; the rest is legal in JSON.
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

/** Words that every shell takes literally; zsh expands a leading equals sign. */
const PLAIN_WORD = /^[\w@%+:,./-][\w@%+=:,./-]*$/;

/** Quotes a word for sh, bash and zsh. */
export function quoteWord(text: string): string {
  return PLAIN_WORD.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// The text of a system error, for a message.

/**
 * The error in one line: `permission denied (EACCES)`, `connection refused (ECONNREFUSED 192.0.2.1:80)`. For a system error the
 * caller names the file, and `named`, an address that its message has already. Several attempts at one name come as an
 * AggregateError without a message.
 */
export function describeError(error: unknown, named = ''): string {
  if (error instanceof AggregateError) return error.errors.map((one) => describeError(one, named)).join('; ');
  if (!(error instanceof Error)) return String(error);
  const { code, syscall, address, port }: SystemError = error;
  const words = typeof code === 'string' ? wordsOf(code) : undefined;
  if (typeof code !== 'string' || words === undefined) return error.message;
  // Node's port of a unix socket is -1.
  const place = typeof address === 'string' && typeof port === 'number' && port >= 0 ? showPlace(address, port) : '';
  const unnamed = place === '' || place === named ? '' : ` ${place}`;
  const isProgram = code === 'ENOENT' && typeof syscall === 'string' && syscall.startsWith('spawn');
  return `${isProgram ? 'no such program' : words} (${code}${unnamed})`;
}

/** The words for a system error code; undefined for any other text. */
function wordsOf(code: string): string | undefined {
  const numbers: Readonly<Partial<Record<string, number>>> = constants.errno;
  const number = Object.hasOwn(numbers, code) ? numbers[code] : undefined;
  return meaningOf(code).words ?? (number === undefined ? undefined : getSystemErrorMap().get(-number)?.[1]);
}

/** The fields that Node adds to a system error. */
interface SystemError extends Error {
  readonly code?: unknown;
  readonly syscall?: unknown;
  readonly address?: unknown;
  readonly port?: unknown;
}

const showPlace = (address: string, port: number): string =>
  address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`;
