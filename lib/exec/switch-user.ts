/** How a command becomes another user's. */
import { realpath } from 'node:fs/promises';
import path from 'node:path';
import { VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import type { ExecSystem } from './exec-system.js';
import type { CommandOptions } from './running-command.js';
import { hasOtherGroups, type UserAccount } from './user-account.js';

/** What of a command depends on its user. */
export type CommandUser = Pick<CommandOptions, 'file' | 'argv' | 'uid' | 'gid' | 'owner'>;

/** Rejects with `command-denied` where this process cannot run anything as `user`. */
export function requireSwitch(user: UserAccount, { uid }: ExecSystem): void {
  if (user.uid === uid || uid === 0) return;
  throw new VproxyError(
    'command-denied',
    `commands cannot be run as ${escapeText(user.name, 64)}: only root can do that`,
  );
}

/**
 * A program as it is run for `user`. This process's own user keeps all groups of this process. Another one has, besides
 * the group of its account, its groups of /etc/group by way of setpriv(1) of util-linux; where that is not there, only
 * the group of its account.
 */
export async function switchUser(
  { file, argv, isLogin }: Pick<CommandOptions, 'file' | 'argv'> & { readonly isLogin: boolean },
  user: UserAccount,
  system: ExecSystem,
): Promise<CommandUser> {
  if (user.uid === system.uid) return { file, argv };
  const { uid, gid } = user;
  const owner = { uid, gid };
  const setpriv = (await hasOtherGroups(user, system.groupFile)) ? await findSetpriv(system.setprivFiles) : null;
  if (setpriv === null) return { file, argv, uid, gid, owner };
  // It calls a program by its path: a login shell is told by `-l` what it is otherwise told by its name.
  const called = isLogin ? [file, '-l'] : [file, ...argv.slice(1)];
  const options = [`--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--'];
  return { file: setpriv, argv: ['setpriv', ...options, ...called], owner };
}

/** That of busybox cannot do it. */
async function findSetpriv(files: readonly string[]): Promise<string | null> {
  for (const file of files) {
    const real = await realpath(file).catch(() => '');
    if (path.basename(real) === 'setpriv') return file;
  }
  return null;
}
