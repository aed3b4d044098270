/** Transcripts: blocks of the language `console`, in which commands and their output alternate. */

export interface Exchange {
  /** The number of the command's first line in the block, from 0. */
  readonly line: number;
  readonly command: string;
  /** The lines of its output. `…` in a line matches anything, a line with only `…` any number of lines. */
  readonly output: readonly string[];
}

const ANYTHING = '…';

/** The commands of a transcript in order. Throws if it does not begin with one. */
export function parseTranscript(text: string): Exchange[] {
  const exchanges: { line: number; command: string; output: string[] }[] = [];
  let goesOn = false;
  for (const [number, line] of text.replace(/\n$/, '').split('\n').entries()) {
    const last = exchanges.at(-1);
    if (goesOn && last !== undefined) last.command += `\n${line}`;
    else if (/^[$#] /.test(line)) exchanges.push({ line: number, command: line.slice(2), output: [] });
    else if (last === undefined) throw new Error('a transcript begins with a command: "$ …"');
    else last.output.push(line);
    goesOn = (goesOn || /^[$#] /.test(line)) && line.endsWith('\\');
  }
  return exchanges;
}

/** Whether `printed` matches a transcript. Ignores trailing spaces and trailing empty lines. */
export function matchesTranscript(shown: readonly string[], printed: string): boolean {
  const pattern = trimEnd(shown.join('\n'))
    .split('\n')
    .map((line) => (line.trim() === ANYTHING ? '(?:.*\n)*' : `${patternOf(line)}\n`))
    .join('');
  return new RegExp(`^${pattern}$`).test(`${trimEnd(printed)}\n`);
}

const patternOf = (line: string): string => line.split(ANYTHING).map(escapePattern).join('.*');

const escapePattern = (text: string): string => text.replace(/[$()*+.?[\\\]^{|}]/g, String.raw`\$&`);

const trimEnd = (text: string): string =>
  text
    .replaceAll('\r\n', '\n')
    .replace(/[ \t]+$/gm, '')
    .replace(/\n+$/, '');
