/** `vproxy check FILE`: whether a configuration file is right, and what vproxy would do with it. */
import type { CommandModule } from 'yargs';
import { BadFileError } from '../../lib/config/bad-file-error.js';
import { escapeText } from '../../lib/util/escape.js';

/** The arguments of the command. */
export interface CheckArguments {
  readonly file: string;
}

/** The command for yargs. It prints what is wrong, a line each, and sets the exit status. */
export const checkCommand: CommandModule<object, CheckArguments> = {
  command: 'check <file>',
  describe: 'Check a configuration file, and print everything that is wrong with it',
  builder: (yargs) =>
    yargs.positional('file', { type: 'string', demandOption: true, describe: 'The file, TOML or JSON' }),
  handler: async ({ file }) => {
    try {
      // Loads nearly everything that there is, which other commands need not wait for.
      const { checkFile } = await import('../check-file.js');
      const description = await checkFile(file);
      process.stdout.write(`${escapeText(file, 1024)}: ok\n${description}`);
    } catch (error) {
      if (!(error instanceof BadFileError)) throw error;
      for (const problem of error.problems) process.stderr.write(`${problem}\n`);
      process.exitCode = error.row.exit;
    }
  },
};
