/** The command line as yargs reads it: the command that runs a proxy, and the help. */
import yargs from 'yargs';
import { VproxyError } from '../lib/errors.js';
import { runCommand } from './commands/run.js';
import { formatCommandList } from './control/help.js';
import { describeVersion } from './package-info.js';
import { normalizeArguments } from './raw-arguments.js';
import { usageError } from './usage-error.js';

/** How yargs reads words: as they are written. */
export const PARSER_CONFIGURATION = {
  'boolean-negation': false,
  'camel-case-expansion': false,
  'dot-notation': false,
  'parse-numbers': false,
  'parse-positional-numbers': false,
} as const;

/** Runs the command that `args` name to its end. Rejects with `bad-argument`, or with what it fails with. */
export async function runParser(args: readonly string[]): Promise<void> {
  await parser(normalizeArguments(args)).parseAsync();
}

function parser(args: readonly string[]) {
  return yargs([...args])
    .scriptName('vproxy')
    .locale('en')
    .exitProcess(false)
    .parserConfiguration(PARSER_CONFIGURATION)
    .command(runCommand)
    .strict()
    .help()
    .alias('help', 'h')
    .version(describeVersion())
    .wrap(Math.min(process.stdout.columns || 100, 120))
    .epilogue(`${formatCommandList()}\n\nManual: docs/cli.md. Exit statuses: docs/errors.md.`)
    .fail((message: string | null, error: Error | undefined) => {
      throw error instanceof VproxyError || message === null
        ? (error ?? new VproxyError('internal', 'a command failed without a reason'))
        : usageError(message, args);
    });
}
