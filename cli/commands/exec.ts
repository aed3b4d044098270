/** `vproxy exec`, for the help: cli/vproxy.ts runs it without loading this. */
import type { Command } from '../command/arguments.js';
import { EXEC_OPTIONS } from '../exec/exec-options.js';
import { runExec } from '../exec/run-exec.js';

/** The command. */
export const command: Command = {
  usage: 'exec [LABEL:] [options] [--] [CMD [ARG…]]',
  about:
    "Runs a command at the peer of a channel, with this command's standard input, output and error, signals and exit status; without CMD the login shell. Options end at the first word that is none. Failures of vproxy's own have the status 125.",
  options: EXEC_OPTIONS,
  operands: ['[LABEL:]', '[CMD]', '[ARG…]'],
  run: () => runExec(['exec', '--help']),
};
