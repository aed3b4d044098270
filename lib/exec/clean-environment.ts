/** The environment of a command: nothing of this process's own, and what the request names. */
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import type { ExecSystem } from './exec-system.js';
import type { ExecRequest } from './messages.js';
import type { UserAccount } from './user-account.js';

/** Everything that a command finds in its environment; what the request names goes first. */
export function cleanEnvironment(
  { env, terminal }: ExecRequest,
  user: UserAccount,
  { path, lang }: ExecSystem,
): Record<string, string> {
  return {
    PATH: path,
    HOME: user.home,
    USER: user.name,
    LOGNAME: user.name,
    SHELL: user.shell,
    ...(lang !== null && { LANG: lang }),
    ...(terminal !== undefined && { TERM: terminal.term }),
    ...env,
  };
}

/**
 * Refuses what could make a program run another one, or load code: only the language, the time zone and the kind of the
 * terminal may be named, and none of them by a path. Throws `command-denied`.
 */
export function requireHarmlessEnvironment({ env = {}, terminal }: ExecRequest): void {
  const named = terminal === undefined ? env : { TERM: terminal.term, ...env };
  for (const [name, value] of Object.entries(named)) {
    if (!HARMLESS_NAME.test(name)) throw denied(name, 'may not be set');
    if (PATH_VALUE.test(value)) throw denied(name, 'may not name a path');
  }
}

const HARMLESS_NAME = /^(?:TERM|LANG|LC_[A-Z]+|TZ)$/;

/** TZ may begin with a colon, and both have names with slashes: `:Europe/Berlin`. */
const PATH_VALUE = /^:?\/|\.\./;

const denied = (name: string, what: string): VproxyError =>
  new VproxyError('command-denied', `the variable ${escapeText(name, 64)} ${what}: only certain programs are allowed`);
