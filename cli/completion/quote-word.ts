/** Words of shells. */

/** A text as one word of bash or zsh. */
export function quoteWord(text: string): string {
  return /^[\w./:+,-][\w./:=+,-]*$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

/** A text as one word of fish, in whose quotes a backslash counts. */
export function quoteFishWord(text: string): string {
  return /^[\w./:+,-][\w./:=+,-]*$/.test(text) ? text : `'${text.replace(/[\\']/g, '\\$&')}'`;
}
