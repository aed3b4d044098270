/** Splits one simple command into words as a shell would: quotes and backslashes. */

/** The words up to an unquoted `|;&<>()`, a comment, or the quote around the command. Keeps variables and globs as is. */
export function shellWords(text: string): string[] {
  const words: string[] = [];
  let word: string | null = null;
  for (const [token, single, double, escaped] of text.matchAll(TOKEN)) {
    if (/^\s/.test(token)) {
      if (word !== null) words.push(word);
      word = null;
      continue;
    }
    // The number of a descriptor that is redirected.
    if (/^[<>]$/.test(token) && word !== null && /^\d$/.test(word)) word = null;
    // An unpaired quote ends a command that is itself within quotes.
    if (/^[|;&<>()'"]$/.test(token) || (token === '#' && word === null)) break;
    if (escaped === '\n') continue;
    word = (word ?? '') + (single ?? double?.replace(/\\([$"\\`\n])/g, '$1') ?? escaped ?? token);
  }
  if (word !== null) words.push(word);
  return words;
}

const TOKEN = /'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|\s+|[^\s'"\\|;&<>()#]+|[^\s]/gs;
