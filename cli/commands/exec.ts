/** `vproxy exec` and `vproxy shell` for the table of commands: cli/vproxy.ts runs them without loading this. */
import type { Command, CommandDescription } from '../command/command.js';
import { EXEC_COMMAND, SHELL_COMMAND } from '../exec/exec-options.js';

/** Does not return: the process exits with the status of the command on the peer. */
const runAtPeer = (word: string, description: CommandDescription): Command => ({
  ...description,
  async run() {
    const { runExec } = await import('../exec/run-kept.js');
    return runExec([word, ...process.argv.slice(3)]);
  },
});

export const exec = runAtPeer('exec', EXEC_COMMAND);

export const shell = runAtPeer('shell', SHELL_COMMAND);
