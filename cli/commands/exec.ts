/** `vproxy exec` and `vproxy shell`, as the table has them: cli/vproxy.ts runs them without loading this. */
import type { Command, CommandDescription } from '../command/command.js';
import { EXEC_COMMAND, SHELL_COMMAND } from '../exec/exec-arguments.js';

/** Does not return: the process ends with the status of the command at the peer. */
const runAtPeer = (word: string, description: CommandDescription): Command => ({
  ...description,
  async run() {
    const { runExec } = await import('../exec/run-exec.js');
    return runExec([word, ...process.argv.slice(3)]);
  },
});

/** `vproxy exec`. */
export const exec = runAtPeer('exec', EXEC_COMMAND);

/** `vproxy shell`. */
export const shell = runAtPeer('shell', SHELL_COMMAND);
