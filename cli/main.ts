/** The command line as a whole: its commands, its help, and what becomes of an argument that is wrong. */
import yargs from 'yargs';
import { VproxyError } from '../lib/errors.js';
import { checkCommand } from './commands/check.js';
import { pipeCreateCommand } from './commands/pipe-create.js';
import { runCommand } from './commands/run.js';
import { storageEmulatorCommand } from './commands/storage-emulator.js';
import { EXIT_OK, exitOnDefect, exitStatusOf } from './exit.js';
import { Output } from './output.js';
import { describeVersion } from './package-info.js';
import { normalizeArguments } from './raw-arguments.js';
import { usageError } from './usage-error.js';

/**
 * Runs the command that `args` name (without the program's own name) to its end, and sets the exit status of the
 * process. An argument that is wrong gives one line on stderr and status 64.
 */
export async function runCommandLine(args: readonly string[]): Promise<void> {
  const output = new Output();
  exitOnDefect((error) => output.defect(error));
  // `vproxy --help | head -1` is no failure.
  process.stdout.on('error', () => process.exit(EXIT_OK));
  try {
    await parser(normalizeArguments(args)).parseAsync();
  } catch (error) {
    output.failure(error);
    process.exitCode = exitStatusOf(error);
  }
}

function parser(args: readonly string[]) {
  return (
    yargs([...args])
      .scriptName('vproxy')
      .locale('en')
      .exitProcess(false)
      .parserConfiguration({
        'boolean-negation': false,
        'camel-case-expansion': false,
        'dot-notation': false,
        'parse-numbers': false,
        'parse-positional-numbers': false,
      })
      .command(runCommand)
      // Their own types say which arguments their handlers take; yargs's `command` does not take that in.
      .command(storageEmulatorCommand)
      .command(pipeCreateCommand)
      .command(checkCommand)
      .strict()
      .help()
      .alias('help', 'h')
      .version(describeVersion())
      .wrap(Math.min(process.stdout.columns || 100, 120))
      .epilogue('Manual: docs/cli.md. Exit statuses: docs/errors.md.')
      .fail((message: string | null, error: Error | undefined) => {
        throw error instanceof VproxyError || message === null
          ? (error ?? new VproxyError('internal', 'a command failed without a reason'))
          : usageError(message, args);
      })
  );
}
