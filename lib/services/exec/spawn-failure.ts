/** Errors of starting a command, for callers of the service `exec`. */
import { existsSync } from 'node:fs';
import { systemCode, VproxyError } from '../../errors.js';
import { describeError, escapeText } from '../../util/escape.js';
import type { CommandOptions } from './running-command.js';

/** `command-not-found` if the program was removed since it was found, else `command-failed` with the system's reason. */
export function spawnFailure(error: unknown, { file, cwd }: CommandOptions): VproxyError {
  if (error instanceof VproxyError) return error;
  const name = escapeText(file, 200);
  const fail = (why: string): VproxyError => new VproxyError('command-failed', `${name}: ${why}`, { cause: error });
  if (systemCode(error) !== 'ENOENT') return fail(escapeText(describeError(error), 200));
  if (!existsSync(cwd)) return fail(`folder ${escapeText(cwd, 200)} does not exist`);
  // ENOENT is also the error for a script whose `#!` interpreter does not exist.
  if (existsSync(file)) return fail('its interpreter does not exist');
  return new VproxyError('command-not-found', `${name}: command not found`, { cause: error });
}
