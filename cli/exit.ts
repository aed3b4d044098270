/** How the process ends: exit statuses, and what becomes of a defect. docs/errors.md has them all. */
import { ERROR_CODES, toVproxyError } from '../lib/errors.js';

/** What was asked for was done; also an orderly end by SIGINT or SIGTERM. */
export const EXIT_OK = 0;

/** The exit status of a command that ends with an error: that of its code, or that of `internal`. */
export function exitStatusOf(error: unknown): number {
  return toVproxyError(error).row.exit;
}

let reportDefect: (error: unknown) => void = () => undefined;

/** Ends the process with status 70 when anything is thrown that nobody catches, after `report` was called with it. */
export function exitOnDefect(report: (error: unknown) => void): void {
  reportDefect = report;
  if (process.listenerCount('uncaughtException') > 0) return;
  process.on('uncaughtException', (error) => {
    reportDefect(error);
    process.exit(ERROR_CODES.internal.exit);
  });
}
