/** Why a command could not be run, or why it is not known how it ended: for the caller of the service `exec`. */

import { existsSync } from 'node:fs';
import { systemCode, toVproxyError, VproxyError } from '../errors.js';
import { describeError, escapeText } from '../util/escape.js';
import type { CommandOptions } from './running-command.js';

/** What is said where the peer offers no `exec`, or not to this side. */
const NOT_ALLOWED = 'the peer lets no commands be run (vproxy --allow-exec there)';

/**
 * The error for a stream to `exec` that could not be opened: `command-denied` where the peer offers none or denies it,
 * else `exec-unavailable` with the same message.
 */
export function openError(error: unknown): VproxyError {
  return isRefusal(error) ? denied(error) : unavailable(toVproxyError(error).message, error);
}

/** The error for a stream that failed, or ended (null), before it said how the command ended; `hasBegun`: it had said something. */
export function lostError(error: Error | null, hasBegun: boolean): VproxyError {
  if (!hasBegun && isRefusal(error)) return denied(error);
  const unknown = hasBegun ? 'how the command ended is not known' : 'whether the command ran is not known';
  return unavailable(`${unknown}: ${error === null ? 'the other side ended the stream' : error.message}`, error);
}

/** Where the system denies the control socket, its own error is the cause. */
const isRefusal = (error: unknown): boolean =>
  error instanceof VproxyError &&
  (error.code === 'unknown-service' || (error.code === 'denied' && error.cause === undefined));

const denied = (cause: unknown): VproxyError => new VproxyError('command-denied', NOT_ALLOWED, { cause });

const unavailable = (message: string, cause: unknown): VproxyError =>
  new VproxyError('exec-unavailable', escapeText(message, 1000), { cause });

/** `command-not-found` where the program has gone since it was found, else `command-failed` with the system's reason. */
export function spawnFailure(error: unknown, { file, cwd }: CommandOptions): VproxyError {
  if (error instanceof VproxyError) return error;
  const name = escapeText(file, 200);
  const fail = (why: string): VproxyError => new VproxyError('command-failed', `${name}: ${why}`, { cause: error });
  if (systemCode(error) !== 'ENOENT') return fail(escapeText(describeError(error), 200));
  if (!existsSync(cwd)) return fail(`the folder ${escapeText(cwd, 200)} is not there`);
  // The system says the same of a script whose `#!` names nothing.
  if (existsSync(file)) return fail('its interpreter is not there');
  return new VproxyError('command-not-found', `${name}: command not found`, { cause: error });
}
