/** Runs one command that steers a running vproxy, from its words to its exit status. */
import { VproxyError } from '../../lib/errors.js';
import { closestWord } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import { EXIT_OK } from '../exit.js';
import { parseArguments } from './arguments.js';
import { type FoundCommand, secondWords } from './table.js';

/** Resolves with the exit status. Rejects with what the command failed with. */
export async function runCommand(found: FoundCommand): Promise<number> {
  if (found.entry === null) return await runGroup(found);
  const command = await found.entry.load();
  const args = parseArguments(command, found.words);
  if (!args.has('help')) return (await command.run(args)) ?? EXIT_OK;
  const { formatHelp } = await import('./help.js');
  process.stdout.write(formatHelp(command));
  return EXIT_OK;
}

/** `vproxy forward`, and what is behind it is no command. */
async function runGroup({ name, words: [word] }: FoundCommand): Promise<number> {
  const known = secondWords(name);
  if (word === '--help' || word === '-h') {
    const { formatGroupHelp } = await import('./help.js');
    process.stdout.write(formatGroupHelp(name));
    return EXIT_OK;
  }
  const choice = known.map((second) => `${name} ${second}`).join(' or ');
  if (word === undefined) throw new VproxyError('bad-argument', `${name}: a word is missing; expected ${choice}`);
  const close = closestWord(word, known);
  const hint = close === undefined ? `expected ${choice}` : `did you mean ${name} ${close}?`;
  throw new VproxyError('bad-argument', `"${name} ${escapeText(word, 64)}": no such command; ${hint}`);
}
