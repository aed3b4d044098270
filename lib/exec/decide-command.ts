/** From what a caller asks for to what is run: whether it may, which program, as whom, where, with which environment. */

import { realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import {
  describeUser,
  findUser,
  GROUP_FILE,
  hasOtherGroups,
  PASSWD_FILE,
  type UserAccount,
} from '../system/accounts.js';
import { findProgram, lookAt, requireRunnable } from '../system/processes/find-program.js';
import { escapeText } from '../util/escape.js';
import type { ExecRequest } from './exec-messages.js';
import type { CommandOptions } from './running-command.js';

/** The programs that a caller may run: any, or exactly these, by their absolute paths. */
export interface ExecRules {
  /** `any`, or absolute paths. */
  readonly commands: 'any' | readonly string[];
}

/** The machine on which commands are run. */
export interface ExecSystem {
  /** Who this process is. */
  readonly uid: number;
  readonly gid: number;
  readonly passwdFile: string;
  readonly groupFile: string;
  /** Where util-linux's setpriv(1) may be, which gives a command all groups of its user. */
  readonly setprivFiles: readonly string[];
  /** `PATH` of commands. */
  readonly path: string;
  /** `LANG` of commands; null: it is not set. */
  readonly lang: string | null;
}

/** The default of `PATH`. */
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export const thisSystem = (): ExecSystem => ({
  uid: process.getuid?.() ?? 0,
  gid: process.getgid?.() ?? 0,
  passwdFile: PASSWD_FILE,
  groupFile: GROUP_FILE,
  setprivFiles: ['/usr/bin/setpriv', '/bin/setpriv'],
  path: DEFAULT_PATH,
  lang: null,
});

/** A command that may be run. */
export interface CommandDecision {
  readonly options: CommandOptions;
  /** The name of the user that it is run as. */
  readonly user: string;
}

/** Decides a request. Rejects with `command-denied`, `command-not-found` or `command-failed`. */
export async function decideCommand(
  request: ExecRequest,
  { commands }: ExecRules,
  system: ExecSystem,
): Promise<CommandDecision> {
  if (commands !== 'any') requireHarmlessEnvironment(request);
  const user = chooseUser(request, system);
  requireSwitch(user, system);
  const env = cleanEnvironment(request, user, system);
  const cwd = await chooseFolder(request.cwd, user.home);
  const isLogin = request.argv.length === 0;
  const name = request.argv[0] ?? user.shell;
  const found = await findProgram(name, { cwd, path: env['PATH'] ?? '' });
  const file = commands === 'any' ? found.file : await requireEntry(commands, found.file, name);
  requireRunnable(file === found.file ? found : await lookAt(file), name);
  const called = callName(name, file, isLogin, commands !== 'any');
  const program = await switchUser({ file, argv: [called, ...request.argv.slice(1)], isLogin }, user, system);
  return { options: { ...program, cwd, env, hasInput: request.hasInput ?? true }, user: user.name };
}

function chooseUser({ user: name }: ExecRequest, system: ExecSystem): UserAccount {
  if (name === undefined) return describeUser(system.uid, system.gid, system.passwdFile);
  const user = findUser(name, system.passwdFile);
  if (user === null) throw new VproxyError('command-failed', `there is no user "${escapeText(name, 64)}"`);
  return user;
}

/** A path that is not absolute begins at home; a home that is missing is no error unless it was asked for. */
async function chooseFolder(cwd: string | undefined, home: string): Promise<string> {
  if (cwd === undefined) return (await folderRefusal(home)) === null ? home : '/';
  const folder = path.isAbsolute(cwd) ? cwd : `${home}/${cwd}`;
  const why = await folderRefusal(folder);
  if (why !== null) throw new VproxyError('command-failed', `the folder ${escapeText(folder, 200)} ${why}`);
  return folder;
}

async function folderRefusal(folder: string): Promise<string | null> {
  try {
    return (await stat(folder)).isDirectory() ? null : 'is no folder';
  } catch (error) {
    const code = systemCode(error);
    return code === 'ENOENT' ? 'is not there' : `cannot be entered (${code})`;
  }
}

async function requireEntry(entries: readonly string[], file: string, name: string): Promise<string> {
  const entry = await findEntry(entries, file);
  if (entry === null) {
    throw new VproxyError('command-denied', `${escapeText(name, 200)}: this program is not among those allowed`);
  }
  return entry;
}

/** Where only certain programs are allowed, none is called by a name of the caller's making. */
function callName(name: string, file: string, isLogin: boolean, isListed: boolean): string {
  if (isLogin) return `-${path.basename(file)}`;
  if (!isListed) return name;
  return name.includes('/') ? file : path.basename(file);
}

// The program.

/**
 * The entry of a list that a path names, or null. Folders may be links (`/bin` to `/usr/bin`); the last name has to be
 * that of the entry, for many programs are links to one file that looks at the name by which it is called (busybox), and
 * to allow one of them is not to allow all. What is to be run is the entry, not the path: nobody can put another program
 * in its place between the look and the run.
 */
async function findEntry(entries: readonly string[], file: string): Promise<string | null> {
  if (entries.includes(file)) return file;
  const place = await placeOf(file);
  if (place === null) return null;
  for (const entry of entries) {
    if ((await placeOf(entry)) === place) return entry;
  }
  return null;
}

/** The path with every link in its folders followed, and none at its end. */
async function placeOf(file: string): Promise<string | null> {
  try {
    return `${await realpath(path.dirname(file))}/${path.basename(file)}`;
  } catch {
    return null;
  }
}

// The environment: nothing of this process's own, and what the request names.

/** Everything that a command finds in its environment; what the request names goes first. */
function cleanEnvironment(
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
function requireHarmlessEnvironment({ env = {}, terminal }: ExecRequest): void {
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

// The user.

/** What of a command depends on its user. */
type CommandUser = Pick<CommandOptions, 'file' | 'argv' | 'uid' | 'gid' | 'owner'>;

/** Rejects with `command-denied` where this process cannot run anything as `user`. */
function requireSwitch(user: UserAccount, { uid }: ExecSystem): void {
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
async function switchUser(
  { file, argv, isLogin }: Pick<CommandOptions, 'file' | 'argv'> & { readonly isLogin: boolean },
  user: UserAccount,
  system: ExecSystem,
): Promise<CommandUser> {
  if (user.uid === system.uid) return { file, argv };
  const { uid, gid } = user;
  const owner = { uid, gid };
  const setpriv = hasOtherGroups(user, system.groupFile) ? await findSetpriv(system.setprivFiles) : null;
  if (setpriv === null) return { file, argv, uid, gid, owner };
  // It calls a program by its path: a login shell is told by `-l` what it is otherwise told by its name.
  const called = isLogin ? [file, '-l'] : [file, ...argv.slice(1)];
  const options = [`--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--'];
  return { file: setpriv, argv: ['setpriv', ...options, ...called], owner };
}

/** busybox has a setpriv that cannot do it. */
async function findSetpriv(files: readonly string[]): Promise<string | null> {
  for (const file of files) {
    const real = await realpath(file).catch(() => '');
    if (path.basename(real) === 'setpriv') return file;
  }
  return null;
}
