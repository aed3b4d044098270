/** Dispatches the command line, and reports failures. Loads as little as possible. */
import { writeSync } from 'node:fs';
import { escapeText } from '../lib/util/escape.js';
import { exitOnDefect, exitStatusOf } from './exit.js';

/** The only argument of a command line that asks for the version. */
const VERSION_OPTIONS: readonly unknown[] = ['--version', '-V'];

/** The command of the shells' completion scripts, which no list shows. */
const COMPLETE = '__complete';

/**
 * Runs the command that `args` name (without the program name) to its end, and sets the exit status of the process. A wrong
 * argument prints one line to stderr and gives status 64.
 */
export async function runCommandLine(args: readonly string[]): Promise<void> {
  exitOnDefect(reportDefect);
  try {
    if (args[0] === COMPLETE) {
      const { printCompletion } = await import('./completion/complete.js');
      await printCompletion(args.slice(1));
    } else if (args.length === 1 && VERSION_OPTIONS.includes(args[0])) {
      const { printVersion } = await import('./package-info.js');
      printVersion();
    } else {
      const { runCommand } = await import('./command/run-command.js');
      process.exitCode = await runCommand(args);
    }
  } catch (error) {
    const { Output } = await import('./run/output.js');
    new Output().failure(error);
    process.exitCode = exitStatusOf(error);
  }
}

/** Used until a command has its own log. */
function reportDefect(error: unknown): void {
  const message = escapeText(error instanceof Error ? error.message : String(error));
  try {
    writeSync(2, `vproxy: error: internal: ${message}\n`);
  } catch {
    // Standard error is closed, or would block.
  }
}
