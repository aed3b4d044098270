/** Makes foreign text safe to show: nothing in it can move the cursor, forge a line, or fill a screen. */

/**
 * A text with every control character, line separator, lone surrogate and bidirectional override shown as `\xNN` or
 * `\u{NNNN}`, a backslash doubled, and cut to `maxLength` characters with an ellipsis.
 */
export function escapeText(text: string, maxLength = 256): string {
  const cut = text.length > maxLength ? `${text.slice(0, maxLength)}…` : text;
  return cut.replace(UNSAFE, (character) => {
    if (character === '\\') return '\\\\';
    if (character === '\n') return '\\n';
    if (character === '\t') return '\\t';
    const code = character.codePointAt(0) ?? 0;
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u{${code.toString(16)}}`;
  });
}

/** What a terminal may obey besides C0, as a part of a class of characters: DEL, C1, zero-width and bidirectional controls, line separators, BOM. */
export const OBEYED = '\\u007f-\\u009f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufeff';

// C0, the backslash, and surrogates, too.
const UNSAFE = new RegExp(`[\\u0000-\\u001f\\\\${OBEYED}]|\\p{Surrogate}`, 'gu');
