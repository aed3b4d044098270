/** `vproxy shell`, for the help: cli/vproxy.ts runs it without loading this. */
import type { Command } from '../command/arguments.js';
import { SHELL_OPTIONS } from '../exec/exec-options.js';
import { runExec } from '../exec/run-exec.js';

/** The command. */
export const command: Command = {
  usage: 'shell [LABEL:] [options]',
  about:
    'Runs the login shell at the peer of a channel, in a terminal where there is one here: exec without a command. Enter ~ . ends it where nothing answers any more.',
  options: SHELL_OPTIONS,
  operands: ['[LABEL:]'],
  run: () => runExec(['shell', '--help']),
};
