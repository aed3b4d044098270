/** Labels: short names that need no quotes in a shell, in a file or in a URL. */

/** What a label is made of, for people. */
export const LABEL_RULE = '1 to 64 of a-z, 0-9, dot, underscore and hyphen';

/** As a pattern, for schemas. */
export const LABEL = /^[a-z0-9._-]{1,64}$/;

/** Whether a text is a label; `..` and `-x` are. */
export function isLabel(text: string): boolean {
  return LABEL.test(text);
}

/** Whether a text is a label that is also safe as a part of a path and as a word of a command: it begins with a letter or digit. */
export function isPlainLabel(text: string): boolean {
  return isLabel(text) && /^[a-z0-9]/.test(text);
}

/** The label in front of the first `separator` of a text, and what is behind it; null where no label is there. */
export function cutLabel(
  text: string,
  separator: '=' | '/' | ':',
): { readonly label: string; readonly rest: string } | null {
  const at = text.indexOf(separator);
  const label = text.slice(0, Math.max(at, 0));
  return isLabel(label) ? { label, rest: text.slice(at + 1) } : null;
}
