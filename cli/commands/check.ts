/** `vproxy check FILE`: whether a configuration file is right, and what vproxy would do with it. */
import { BadFileError } from '../../lib/settings/problem.js';
import { escapeText } from '../../lib/util/escape.js';
import type { Arguments } from '../command/arguments.js';
import type { Command } from '../command/command.js';
import { EXIT_OK } from '../exit.js';
import { checkFile } from '../run/check-file.js';
import { print } from '../ui/print.js';

export const command: Command = {
  usage: 'check FILE',
  about: 'Checks a configuration file, TOML or JSON, and prints everything that is wrong with it, or what it says.',
  options: {},
  isLocal: true,
  operands: ['FILE'],
  run: check,
};

async function check({ operands: [file = ''] }: Arguments): Promise<number> {
  try {
    const description = await checkFile(file);
    print(`${escapeText(file, 1024)}: ok\n${description}`);
    return EXIT_OK;
  } catch (error) {
    if (!(error instanceof BadFileError)) throw error;
    for (const problem of error.problems) process.stderr.write(`${problem}\n`);
    return error.row.exit;
  }
}
