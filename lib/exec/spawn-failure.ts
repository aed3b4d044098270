/** Why a command could not be started, as an error of the table. */
import { existsSync } from 'node:fs';
import { getSystemErrorMap } from 'node:util';
import { systemCode, VproxyError } from '../errors.js';
import { describeError } from '../util/describe-error.js';
import { escapeText } from '../util/escape.js';
import type { CommandOptions } from './running-command.js';

/** `command-not-found` where the program has gone since it was found, else `command-failed` with the system's reason. */
export function spawnFailure(error: unknown, { file, cwd }: CommandOptions): VproxyError {
  if (error instanceof VproxyError) return error;
  const name = escapeText(file, 200);
  const fail = (why: string): VproxyError => new VproxyError('command-failed', `${name}: ${why}`, { cause: error });
  if (systemCode(error) !== 'ENOENT') return fail(reasonOf(error));
  if (!existsSync(cwd)) return fail(`the folder ${escapeText(cwd, 200)} is not there`);
  // The system says the same of a script whose `#!` names nothing.
  if (existsSync(file)) return fail('its interpreter is not there');
  return new VproxyError('command-not-found', `${name}: command not found`, { cause: error });
}

/** `argument list too long (E2BIG)`. */
function reasonOf(error: unknown): string {
  const number = error instanceof Error && 'errno' in error ? error.errno : null;
  const [code, text] = (typeof number === 'number' ? getSystemErrorMap().get(number) : undefined) ?? [];
  return code === undefined ? escapeText(describeError(error), 200) : `${text} (${code})`;
}
