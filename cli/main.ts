/** The command line as a whole: which part of it runs, and what becomes of a failure. Loads as little as it can. */
import { writeSync } from 'node:fs';
import { escapeText } from '../lib/util/escape.js';
import { findCommand } from './command/table.js';
import { EXIT_OK, exitOnDefect, exitStatusOf } from './exit.js';

/**
 * Runs the command that `args` name (without the program's own name) to its end, and sets the exit status of the
 * process. An argument that is wrong gives one line on stderr and status 64.
 */
export async function runCommandLine(args: readonly string[]): Promise<void> {
  exitOnDefect(reportDefect);
  try {
    const command = findCommand(args);
    if (command === null) {
      // `vproxy --help | head -1` is no failure.
      process.stdout.on('error', () => process.exit(EXIT_OK));
      const { runParser } = await import('./command/parser.js');
      await runParser(args);
    } else {
      const { runCommand } = await import('./command/run-command.js');
      process.exitCode = await runCommand(command);
    }
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
