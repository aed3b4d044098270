/** The words of one command as a shell would split them: quotes and backslashes, up to what ends a simple command. */

/** The words up to an unquoted `|`, `;`, `&`, `<`, `>`, `(`, `)`, a comment, or the end of the quotes that the command is in. Variables and globs stay as they are. */
export function shellWords(text: string): string[] {
  const words: string[] = [];
  let word: string | null = null;
  for (const [token, single, double, escaped] of text.matchAll(TOKEN)) {
    if (/^\s/.test(token)) {
      if (word !== null) words.push(word);
      word = null;
      continue;
    }
    // A quote without its end ends a command that is itself within quotes.
    if (/^[|;&<>()'"]$/.test(token) || (token === '#' && word === null)) break;
    if (escaped === '\n') continue;
    word = (word ?? '') + (single ?? double?.replace(/\\([$"\\`\n])/g, '$1') ?? escaped ?? token);
  }
  if (word !== null) words.push(word);
  return words;
}

const TOKEN = /'([^']*)'|"((?:[^"\\]|\\.)*)"|\\(.)|\s+|[^\s'"\\|;&<>()#]+|[^\s]/gs;
