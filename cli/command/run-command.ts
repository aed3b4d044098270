/** Runs a command line, from its words to its exit status. */
import { VproxyError } from '../../lib/errors.js';
import { escapeText } from '../../lib/util/escape.js';
import { isPlainLabel } from '../../lib/util/labels.js';
import { EXIT_OK } from '../exit.js';
import { type Arguments, badArgument } from './arguments.js';
import type { Command } from './command.js';
import type { CommandList } from './help.js';
import { readArguments, requireUtf8 } from './read-words.js';
import {
  COMMON_COMMANDS,
  CONTROL_COMMANDS,
  findCommand,
  firstWords,
  LOCAL_COMMANDS,
  MAIN_COMMAND,
  meantCommands,
  meantSecond,
  QUICK_COMMANDS,
  secondWords,
} from './table.js';

/** Resolves with the exit status. Rejects with `bad-argument`, or with the command's error. */
export async function runCommand(words: readonly string[]): Promise<number> {
  requireUtf8(words);
  const [first] = words;
  const isImplied = first === undefined && (await MAIN_COMMAND.load()).isImplied?.(process.env) === true;
  if (first === undefined && !isImplied) return showShortHelp();
  const { name, entry, words: behind } = findCommand(words);
  if (entry === null) return runGroup(name, behind);
  // For an unknown command, errors in its options do not matter.
  if (name === '' && first !== undefined && !first.startsWith('-')) throw refuseCommand(first, words);
  const command = await entry.load();
  const args = await readFor(name, command, behind);
  if (args.has('help')) {
    const { formatHelp, formatProgramHelp, printHelp } = await import('./help.js');
    return printHelp((width) =>
      name === ''
        ? formatProgramHelp(command, LOCAL_COMMANDS, CONTROL_COMMANDS, width)
        : formatHelp(name, command, width),
    );
  }
  if (name === '' && args.has('version')) return runCommand(['version']);
  return (await command.run(args, runCommand)) ?? EXIT_OK;
}

async function readFor(name: string, command: Command, words: readonly string[]): Promise<Arguments> {
  const reader = QUICK_COMMANDS.includes(name) ? undefined : (await import('./yargs-reader.js')).yargsReader;
  return readArguments(command, words, reader, name === '' ? (word) => refuseCommand(word, words) : undefined);
}

const pickCommands = (isMeant: (name: string) => boolean): CommandList =>
  Object.fromEntries(Object.entries({ ...CONTROL_COMMANDS, ...LOCAL_COMMANDS }).filter(([name]) => isMeant(name)));

async function showShortHelp(): Promise<number> {
  const [{ formatShortHelp, printHelp }, main] = await Promise.all([import('./help.js'), MAIN_COMMAND.load()]);
  const common = pickCommands((name) => COMMON_COMMANDS.includes(name));
  return printHelp((width) => formatShortHelp(main, common, width));
}

/** Handles `vproxy forward` without a known second word. */
async function runGroup(first: string, [word]: readonly string[]): Promise<number> {
  if (word === '--help' || word === '-h') {
    const members = pickCommands((name) => name.startsWith(`${first} `));
    const { formatGroupHelp, printHelp } = await import('./help.js');
    return printHelp((width) => formatGroupHelp(first, members, width));
  }
  const choice = secondWords(first)
    .map((second) => `${first} ${second}`)
    .join(' or ');
  if (word === undefined) throw badArgument(`${first}: incomplete command; expected ${choice}`);
  const meant = meantSecond(first, word);
  const hint = meant === undefined ? `expected ${choice}` : `did you mean ${meant}?`;
  throw badArgument(`"${first} ${escapeText(word, 64)}": no such command; ${hint}`);
}

/** The error for a word among `words` that is neither an option nor a command. */
function refuseCommand(word: string, words: readonly string[]): VproxyError {
  const shown = escapeText(word, 64);
  // The first word is an option, and the second may be its value.
  const at = Math.max(words.indexOf(word, 2), words.indexOf(word));
  if (firstWords().includes(word)) {
    const { name, words: behind } = findCommand(words.slice(at));
    const line = escapeText([name, ...words.slice(0, at), ...behind].join(' '), 200);
    // Other options are those of a proxy.
    const isCommands = at <= 2 && /^--(?:name|socket)(?:=|$)/.test(words[0] ?? '');
    const hint = isCommands ? `did you mean vproxy ${line}?` : `see vproxy ${shown} --help`;
    return badArgument(`"${shown}": the command must come before its options; ${hint}`);
  }
  const next = words[at + 1] ?? '';
  const meant = meantCommands(word).map((line) => line.replace(' LABEL', isPlainLabel(next) ? ` ${next}` : ''));
  if (meant.length > 0) return badArgument(`"${shown}": no such command; did you mean ${meant.join(', or ')}?`);
  if (/^[a-z][a-z-]*$/.test(word)) return badArgument(`"${shown}": no such command; see vproxy help`);
  return badArgument(`unexpected argument "${shown}"; see --help`);
}
