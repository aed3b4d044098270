/** Exit statuses, and the handling of defects. docs/errors.md lists all statuses. */
import { ERROR_CODES, toVproxyError } from '../lib/errors.js';

/** Success; also an orderly shutdown by SIGINT or SIGTERM. */
export const EXIT_OK = 0;

/** Returns the exit status for an error: that of its code, or that of `internal`. */
export function exitStatusOf(error: unknown): number {
  return toVproxyError(error).row.exit;
}

let reportDefect: (error: unknown) => void = () => undefined;

/** Calls `report` with an uncaught exception, then exits with status 70. */
export function exitOnDefect(report: (error: unknown) => void): void {
  reportDefect = report;
  if (process.listenerCount('uncaughtException') > 0) return;
  process.on('uncaughtException', (error) => {
    reportDefect(error);
    process.exit(ERROR_CODES.internal.exit);
  });
}
