/** The exit status of `vproxy exec`: that of the command where it has one. */
import { constants } from 'node:os';
import { ERROR_CODES, type VproxyError } from '../../lib/errors.js';
import type { ExecResult } from '../../lib/exec/messages.js';

/** Of every failure of vproxy's own. */
export const OWN_FAILURE = ERROR_CODES['exec-unavailable'].exit;

/** Of a command that was ended for its time-out, as timeout(1) has it. */
export const TIMED_OUT = 124;

/** Of a command whose reader has gone. */
export const BROKEN_PIPE = 128 + 13;

/** Of a command that was given up at the third SIGINT. */
export const INTERRUPTED = 128 + 2;

/** The status for how a command ended. */
export function statusOfEnd({ status, signal, timedOut, error }: ExecResult): number {
  if (error !== null) return statusOfCode(error.code);
  if (timedOut) return TIMED_OUT;
  if (status !== null) return status;
  // A signal that this system does not know has no number.
  const numbers: Readonly<Record<string, number>> = constants.signals;
  return 128 + (numbers[signal ?? ''] ?? 0);
}

/** The status for a failure. */
export const statusOfFailure = ({ code }: VproxyError): number => statusOfCode(code);

/** A command that could not be run has a status of its own; all else is vproxy's failure. */
function statusOfCode(code: string): number {
  const isCommands = code === 'command-not-found' || code === 'command-denied' || code === 'command-failed';
  return isCommands ? ERROR_CODES[code].exit : OWN_FAILURE;
}
