/** Words that are not UTF-8: Node changes them without a word, so that a command would act on another file. */
import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { badArgument } from '../../lib/errors.js';

/** What Node puts in place of bytes that are not UTF-8. */
const REPLACEMENT = '\ufffd';

const LONGEST_SHOWN = 64;

/** Throws `bad-argument` if a word of the command line, or one of these variables of the environment, is not UTF-8. */
export function requireUtf8(words: readonly string[], variables: readonly string[] = []): void {
  if (words.some(isSuspect)) requireEach('cmdline', () => true);
  const names = variables.filter((name) => isSuspect(process.env[name] ?? ''));
  if (names.length > 0) requireEach('environ', (entry) => names.some((name) => entry.startsWith(`${name}=`)));
}

const isSuspect = (text: string): boolean => text.includes(REPLACEMENT);

function requireEach(file: 'cmdline' | 'environ', isMeant: (entry: string) => boolean): void {
  // As latin1, each byte is a character.
  for (const entry of readFileSync(`/proc/self/${file}`, 'latin1').split('\0')) {
    if (!isMeant(entry) || isUtf8(Buffer.from(entry, 'latin1'))) continue;
    const shown = entry
      .slice(0, LONGEST_SHOWN)
      .replace(/[^ -~]|\\/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);
    throw badArgument(`"${shown}${entry.length > LONGEST_SHOWN ? '…' : ''}": not UTF-8, which words must be`);
  }
}
