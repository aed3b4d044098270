/** Checks command lines of vproxy with the real parser. Runs nothing. */
import type { Arguments } from '../../cli/command/arguments.js';
import { readArguments } from '../../cli/command/read-words.js';
import { findCommand, NAMED_COMMANDS, secondWords } from '../../cli/command/table.js';
import { yargsReader } from '../../cli/command/yargs-reader.js';
import { readExecArguments } from '../../cli/exec/exec-options.js';
import { parseRunFlags } from '../../cli/run/run-options.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';

/** Whether the words are just the name of a command, as in `vproxy stream close`. */
export function isCommandName(words: readonly string[]): boolean {
  const name = words.join(' ');
  return Object.hasOwn(NAMED_COMMANDS, name) || secondWords(name).length > 0;
}

/** Resolves if the words after `vproxy` are valid. Rejects with the parser's error. */
export async function checkCommandLine(words: readonly string[]): Promise<void> {
  const [first = ''] = words;
  if (['exec', 'shell'].includes(first)) {
    readExecArguments(words, {});
    return;
  }
  const { name, entry, words: behind } = findCommand(words);
  if (entry === null) throw new Error(`"${name}" needs a second word`);
  const args = readArguments(await entry.load(), behind, yargsReader);
  if (name === '') checkRun(args);
}

function checkRun(args: Arguments): void {
  if (args.has('help') || args.has('version')) return;
  const flags = parseRunFlags((option) => args.texts(option));
  // The contents of the file are unknown here.
  if (flags.file === null) mergeConfiguration(null, flags);
}
