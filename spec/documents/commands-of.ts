/** The command lines of a block, and its calls of vproxy. */
import type { Block } from './parse-document.js';
import { parseTranscript } from './transcript.js';

/** A command line, possibly of several lines, and its position in the document. */
interface CommandLine {
  readonly line: number;
  readonly text: string;
}

/** All command lines, without comments and empty lines. A backslash continues a line. */
export function commandLinesOf(block: Block): CommandLine[] {
  if (block.language === 'console') {
    return parseTranscript(block.text).map(({ line, command }) => ({ line: block.line + line, text: command }));
  }
  const found: { line: number; text: string }[] = [];
  let goesOn = false;
  for (const [number, text] of block.text.split('\n').entries()) {
    const last = found.at(-1);
    if (goesOn && last !== undefined) last.text += `\n${text}`;
    else if (text.trim() !== '' && !text.trimStart().startsWith('#')) found.push({ line: block.line + number, text });
    goesOn = text.endsWith('\\');
  }
  return found;
}

/**
 * Whether a text has a placeholder for the reader to replace: an ellipsis, a word in capitals, brackets, alternatives.
 */
export function hasPlaceholder(text: string): boolean {
  return /…|\[|\S\|\S|(?<![\w./%=-])[A-Z]{3,}(?![\w-]*=)|\b[A-Z]{3,}\b(?!=)/.test(text);
}

/** The calls of `vproxy` in a command line: the text from after its name to the end of the line. */
export function vproxyCallsIn(text: string): string[] {
  return [...text.matchAll(CALL)].map(({ index, 0: { length } }) => text.slice(index + length));
}

/** At the beginning of a command: after the end of another, after a quote, or after a word that takes a command. */
const CALL = /(?<=(?:^|[|;&('"!`{]|\b(?:if|then|do|exec|sudo|ssh \S+)\s)\s*)vproxy (?=[a-z-])/gm;

/** The text of a block for a shell: its commands without their output. */
export function commandsOf({ language, text }: Block): string {
  if (language !== 'console') return text;
  const commands = parseTranscript(text).map(({ command }) => command);
  return `${commands.join('\n')}\n`;
}
