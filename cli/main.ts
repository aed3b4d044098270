/** The command line as a whole: what runs, and what becomes of a failure. Loads as little as it can. */
import { writeSync } from 'node:fs';
import { escapeText } from '../lib/util/escape.js';
import { runCommand } from './command/run-command.js';
import { exitOnDefect, exitStatusOf } from './exit.js';

/** What the scripts of shells ask with: no command for people, so that it is in no list. */
const COMPLETE = '__complete';

/**
 * Runs the command that `args` name (without the program's own name) to its end, and sets the exit status of the
 * process. An argument that is wrong gives one line on stderr and status 64.
 */
export async function runCommandLine(args: readonly string[]): Promise<void> {
  exitOnDefect(reportDefect);
  try {
    if (args[0] === COMPLETE) {
      const { printCompletion } = await import('./completion/complete.js');
      await printCompletion(args.slice(1));
      return;
    }
    process.exitCode = await runCommand(args);
  } catch (error) {
    const { Output } = await import('./run/output.js');
    new Output().failure(error);
    process.exitCode = exitStatusOf(error);
  }
}

/** Until a command has a log of its own. */
function reportDefect(error: unknown): void {
  const message = escapeText(error instanceof Error ? error.message : String(error));
  try {
    writeSync(2, `vproxy: error: internal: ${message}\n`);
  } catch {
    // Nobody reads that, or not now.
  }
}
