/** The command line as yargs reads it: the command that runs a proxy, those without a running process, and the help. */
import yargs from 'yargs';
import { VproxyError } from '../lib/errors.js';
import { checkCommand } from './commands/check.js';
import { pipeCreateCommand } from './commands/pipe-create.js';
import { runCommand } from './commands/run.js';
import { storageEmulatorCommand } from './commands/storage-emulator.js';
import { formatCommandList } from './control/help.js';
import { describeVersion } from './package-info.js';
import { normalizeArguments } from './raw-arguments.js';
import { usageError } from './usage-error.js';

/** Runs the command that `args` name to its end. Rejects with `bad-argument`, or with what it fails with. */
export async function runParser(args: readonly string[]): Promise<void> {
  await parser(normalizeArguments(args)).parseAsync();
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
      .epilogue(`${formatCommandList()}\n\nManual: docs/cli.md. Exit statuses: docs/errors.md.`)
      .fail((message: string | null, error: Error | undefined) => {
        throw error instanceof VproxyError || message === null
          ? (error ?? new VproxyError('internal', 'a command failed without a reason'))
          : usageError(message, args);
      })
  );
}
