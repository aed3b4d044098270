/** Whether a command line of vproxy is one that the real parser takes. Nothing is run. */
import yargs from 'yargs';
import { parseArguments } from '../../cli/command/arguments.js';
import { normalizeArguments, PARSER_CONFIGURATION } from '../../cli/command/parser.js';
import { CONTROL_COMMANDS, findCommand, LOCAL_COMMANDS, secondWords } from '../../cli/command/table.js';
import { readExecArguments } from '../../cli/exec/exec-arguments.js';
import { RUN_OPTIONS } from '../../cli/run/options.js';
import { parseRunFlags, type RawArguments } from '../../cli/run/run-options.js';
import { mergeConfiguration } from '../../lib/settings/merge.js';

/** Whether these words are the name of a command and nothing else, as a text says `vproxy stream close`. */
export function isCommandName(words: readonly string[]): boolean {
  const name = words.join(' ');
  const known = [CONTROL_COMMANDS, LOCAL_COMMANDS].some((table) => Object.hasOwn(table, name));
  return known || secondWords(name).length > 0;
}

/** Resolves where the words behind `vproxy` are valid. Rejects with what the parser says of them. */
export async function checkCommandLine(words: readonly string[]): Promise<void> {
  const [first = ''] = words;
  if (['exec', 'shell'].includes(first)) {
    readExecArguments(words, {});
    return;
  }
  const found = findCommand(words);
  if (found !== null) {
    if (found.entry === null) throw new Error(`"${found.name}" needs a second word`);
    parseArguments(await found.entry.load(), found.words);
    return;
  }
  await yargsParser(words).parseAsync();
}

function yargsParser(words: readonly string[]) {
  return yargs(normalizeArguments(words))
    .exitProcess(false)
    .parserConfiguration(PARSER_CONFIGURATION)
    .command({ command: '$0', builder: (each) => each.options(RUN_OPTIONS), handler: checkRun })
    .strict()
    .help(false)
    .version(false)
    .option('help', { type: 'boolean' })
    .option('version', { type: 'boolean' })
    .fail((message: string | null, error: Error | undefined) => {
      throw error ?? new Error(message ?? 'no reason');
    });
}

function checkRun(args: RawArguments): void {
  if (args['help'] === true || args['version'] === true) return;
  const flags = parseRunFlags(args);
  // What is in the file is not known here.
  if (flags.file === null) mergeConfiguration(null, flags);
}
