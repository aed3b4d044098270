/** Why a command could not be run, for the caller of the service `exec`. */
import { existsSync } from 'node:fs';
import { systemCode, VproxyError } from '../errors.js';
import { describeError, escapeText } from '../util/escape.js';
import type { CommandOptions } from './running-command.js';

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
