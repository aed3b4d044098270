/** Runs what a command line names, from its words to its exit status. */
import { VproxyError } from '../../lib/errors.js';
import { closestWord } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import { EXIT_OK } from '../exit.js';
import type { Arguments } from './arguments.js';
import type { Command } from './command.js';
import { quickReader, readArguments } from './read-words.js';
import {
  CONTROL_COMMANDS,
  type CommandEntry,
  findCommand,
  firstWords,
  LOCAL_COMMANDS,
  NAMED_COMMANDS,
  secondWords,
} from './table.js';

/** Resolves with the exit status. Rejects with `bad-argument`, or with what the command failed with. */
export async function runCommand(words: readonly string[]): Promise<number> {
  // What runs a proxy is not loaded for that.
  if (words.length === 1 && words[0] === '--version') return showVersion();
  const { name, entry, words: behind } = findCommand(words);
  if (entry === null) return runGroup(name, behind);
  const command = await entry.load();
  const args = await readFor(name, entry, command, behind);
  if (args.has('help')) return showHelp(name, command);
  if (name === '' && args.has('version')) return showVersion();
  return (await command.run(args)) ?? EXIT_OK;
}

async function readFor(
  name: string,
  { isQuick }: CommandEntry,
  command: Command,
  words: readonly string[],
): Promise<Arguments> {
  const reader = isQuick ? quickReader : (await import('./yargs-reader.js')).yargsReader;
  return readArguments(command, words, reader, name === '' ? refuseCommand : undefined);
}

async function showHelp(name: string, command: Command): Promise<number> {
  const { formatHelp, formatProgramHelp } = await import('./help.js');
  return print(name === '' ? formatProgramHelp(command, LOCAL_COMMANDS, CONTROL_COMMANDS) : formatHelp(command));
}

async function showVersion(): Promise<number> {
  const { describeVersion } = await import('../package-info.js');
  return print(`${describeVersion()}\n`);
}

async function print(text: string): Promise<number> {
  const ui = await import('../ui/print.js');
  ui.print(text);
  return EXIT_OK;
}

/** `vproxy forward`, and what is behind it is no command. */
async function runGroup(first: string, [word]: readonly string[]): Promise<number> {
  const known = secondWords(first);
  if (word === '--help' || word === '-h') {
    const { formatGroupHelp } = await import('./help.js');
    const members = Object.entries(NAMED_COMMANDS).filter(([name]) => name.startsWith(`${first} `));
    return print(formatGroupHelp(first, Object.fromEntries(members)));
  }
  const choice = known.map((second) => `${first} ${second}`).join(' or ');
  if (word === undefined) throw bad(`${first}: a word is missing; expected ${choice}`);
  const close = closestWord(word, known);
  const hint = close === undefined ? `expected ${choice}` : `did you mean ${first} ${close}?`;
  throw bad(`"${first} ${escapeText(word, 64)}": no such command; ${hint}`);
}

/** The error for a word that is no option, where no command was named. */
function refuseCommand(word: string): VproxyError {
  const shown = escapeText(word, 64);
  if (firstWords().includes(word)) {
    return bad(`"${shown}": a command comes before its options; see vproxy ${shown} --help`);
  }
  const close = closestWord(word, firstWords());
  if (close !== undefined) return bad(`"${shown}": no such command; did you mean ${close}?`);
  return bad(`"${shown}": every argument belongs to an option; see --help`);
}

const bad = (message: string): VproxyError => new VproxyError('bad-argument', message);
