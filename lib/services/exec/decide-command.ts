/** Turns a request into a command, or denies it: which program, user, folder and environment. */
import { constants } from 'node:fs';
import { open, realpath, stat } from 'node:fs/promises';
import path from 'node:path';
import { systemCode, VproxyError } from '../../errors.js';
import { Accounts, type UserAccount } from '../../system/accounts.js';
import { findProgram, lookAt, requireRunnable } from '../../system/processes/find-program.js';
import { Turns } from '../../util/concurrency.js';
import { escapeText } from '../../util/escape.js';
import type { ExecRequest } from './exec-messages.js';
import type { CommandOptions } from './running-command.js';

/** The programs that a caller may run. */
export interface ExecRules {
  /** `any`, or absolute paths. */
  readonly commands: 'any' | readonly string[];
}

/** The machine on which commands are run. */
export interface ExecSystem {
  /** The user of this process. */
  readonly uid: number;
  readonly gid: number;
  readonly accounts: Accounts;
  /** Of the channel. */
  readonly lookups: Turns;
  /** Where to look for util-linux's setpriv(1), which gives a command all groups of its user. */
  readonly setprivFiles: readonly string[];
  /** `PATH` of commands. */
  readonly path: string;
}

/** The default of `PATH`. */
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export const thisSystem = (): ExecSystem => ({
  uid: process.getuid?.() ?? 0,
  gid: process.getgid?.() ?? 0,
  // Not shared: a peer may ask for many users of a directory service that is slow.
  accounts: new Accounts(),
  lookups: new Turns(2),
  setprivFiles: ['/usr/bin/setpriv', '/bin/setpriv'],
  path: DEFAULT_PATH,
});

/** Of all channels. Each lookup may take one of the four threads for system calls for ever, if its file system hangs. */
const allLookups = new Turns(3);

/** A permitted command. */
export interface CommandDecision {
  readonly options: CommandOptions;
  /** The name of the user that it runs as. */
  readonly user: string;
}

/** Decides a request. Rejects with `command-denied`, `command-not-found` or `command-failed`. */
export async function decideCommand(
  request: ExecRequest,
  { commands }: ExecRules,
  system: ExecSystem,
): Promise<CommandDecision> {
  if (commands !== 'any') requireHarmlessEnvironment(request);
  const user = await chooseUser(request, system);
  requireSwitch(user, system);
  const env = cleanEnvironment(request, user, system);
  const look = () => lookUp(request, commands, user, env['PATH'] ?? '');
  const { cwd, ...called } = await system.lookups.run(null, () => allLookups.run(null, look));
  const program = await switchUser(called, user, system);
  return {
    options: { ...program, cwd, env, hasInput: request.hasInput ?? true, hasOneOutput: request.detach !== undefined },
    user: user.name,
  };
}

/** A program, its arguments, and its folder. */
interface FoundCommand extends Pick<CommandOptions, 'file' | 'argv' | 'cwd'> {
  readonly isLogin: boolean;
}

async function lookUp(
  request: ExecRequest,
  commands: ExecRules['commands'],
  user: UserAccount,
  path: string,
): Promise<FoundCommand> {
  const cwd = await chooseFolder(request.cwd, user.home);
  const isLogin = request.argv.length === 0;
  const name = request.argv[0] ?? user.shell;
  const found = await findProgram(name, { cwd, path });
  const file = commands === 'any' ? found.file : await requireEntry(commands, found.file, name);
  requireRunnable(file === found.file ? found : await lookAt(file), name);
  await touch(file);
  const called = callName(name, file, isLogin, commands !== 'any');
  return { file, argv: [called, ...request.argv.slice(1)], isLogin, cwd };
}

/** Waits for a file system that hangs: between fork and exec, it would hold up the whole process. */
async function touch(file: string): Promise<void> {
  const opened = await open(file, constants.O_RDONLY | constants.O_NONBLOCK).catch(() => null); // it may be unreadable
  await opened?.read(Buffer.alloc(1)).catch(() => null);
  await opened?.close();
}

async function chooseUser({ user: name }: ExecRequest, { accounts, uid, gid }: ExecSystem): Promise<UserAccount> {
  if (name === undefined) return accounts.describeUser(uid, gid);
  const user = await accounts.findUser(name);
  if (user === null) throw new VproxyError('command-failed', `unknown user "${escapeText(name, 64)}"`);
  return user;
}

/** A relative path starts at the home folder. A missing home is an error only if it was requested. */
async function chooseFolder(cwd: string | undefined, home: string): Promise<string> {
  if (cwd === undefined) return (await folderRefusal(home)) === null ? home : '/';
  const folder = path.isAbsolute(cwd) ? cwd : `${home}/${cwd}`;
  const why = await folderRefusal(folder);
  if (why !== null) throw new VproxyError('command-failed', `folder ${escapeText(folder, 200)}: ${why}`);
  return folder;
}

async function folderRefusal(folder: string): Promise<string | null> {
  try {
    return (await stat(folder)).isDirectory() ? null : 'not a folder';
  } catch (error) {
    const code = systemCode(error);
    return code === 'ENOENT' ? 'does not exist' : `cannot enter it (${code})`;
  }
}

async function requireEntry(entries: readonly string[], file: string, name: string): Promise<string> {
  const entry = await findEntry(entries, file);
  if (entry === null) {
    throw new VproxyError('command-denied', `${escapeText(name, 200)}: not an allowed program`);
  }
  return entry;
}

/** Where only certain programs are allowed, the caller cannot choose `argv[0]` freely. */
function callName(name: string, file: string, isLogin: boolean, isListed: boolean): string {
  if (isLogin) return `-${path.basename(file)}`;
  if (!isListed) return name;
  return name.includes('/') ? file : path.basename(file);
}

// The program.

/**
 * The list entry that a path names, or null. Folders may be links (`/bin` to `/usr/bin`), but the last name must be
 * that of the entry: many programs are links to one file that acts by the name it is called by (busybox), and allowing
 * one of them must not allow all. The caller then runs the entry, not the path, so that the program cannot be swapped
 * between check and start.
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

/** The path with links resolved in its folders, but not in its last name. */
async function placeOf(file: string): Promise<string | null> {
  try {
    return `${await realpath(path.dirname(file))}/${path.basename(file)}`;
  } catch {
    return null;
  }
}

// The environment: nothing is inherited from this process.

/** The whole environment of a command; the request's variables take precedence. */
function cleanEnvironment(
  { env, terminal }: ExecRequest,
  user: UserAccount,
  { path }: ExecSystem,
): Record<string, string> {
  return {
    PATH: path,
    HOME: user.home,
    USER: user.name,
    LOGNAME: user.name,
    SHELL: user.shell,
    ...(terminal !== undefined && { TERM: terminal.term }),
    ...env,
  };
}

/**
 * Rejects variables that could make a program run another one or load code: only language, time zone and terminal type
 * may be set, and not to a path. Throws `command-denied`.
 */
function requireHarmlessEnvironment({ env = {}, terminal }: ExecRequest): void {
  const named = terminal === undefined ? env : { TERM: terminal.term, ...env };
  for (const [name, value] of Object.entries(named)) {
    if (!HARMLESS_NAME.test(name)) throw denied(name, 'cannot be set');
    if (PATH_VALUE.test(value)) throw denied(name, 'cannot name a path');
  }
}

const HARMLESS_NAME = /^(?:TERM|LANG|LC_[A-Z]+|TZ)$/;

/** TZ may begin with a colon, and time zone names contain slashes: `:Europe/Berlin`. */
const PATH_VALUE = /^:?\/|\.\./;

const denied = (name: string, what: string): VproxyError =>
  new VproxyError(
    'command-denied',
    `variable ${escapeText(name, 64)}: ${what} where only certain programs are allowed`,
  );

// The user.

/** The options of a command that depend on its user. */
type CommandUser = Pick<CommandOptions, 'file' | 'argv' | 'uid' | 'gid' | 'owner'>;

/** Throws `command-denied` if this process cannot run commands as `user`. */
function requireSwitch(user: UserAccount, { uid }: ExecSystem): void {
  if (user.uid === uid || uid === 0) return;
  throw new VproxyError(
    'command-denied',
    `cannot run commands as ${escapeText(user.name, 64)}: only root can switch users`,
  );
}

/**
 * The program and arguments that run it as `user`. The user of this process keeps all groups of this process. Another
 * user gets the group of its account and, through setpriv(1) of util-linux, its other groups; without setpriv
 * only the group of its account.
 */
async function switchUser(
  { file, argv, isLogin }: Omit<FoundCommand, 'cwd'>,
  user: UserAccount,
  system: ExecSystem,
): Promise<CommandUser> {
  if (user.uid === system.uid) return { file, argv };
  const { uid, gid } = user;
  const owner = { uid, gid };
  const setpriv = (await system.accounts.hasOtherGroups(user)) ? await findSetpriv(system.setprivFiles) : null;
  if (setpriv === null) return { file, argv, uid, gid, owner };
  // setpriv sets argv[0] to the path, so a login shell needs `-l` instead of a leading dash.
  const called = isLogin ? [file, '-l'] : [file, ...argv.slice(1)];
  const options = [`--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--'];
  return { file: setpriv, argv: ['setpriv', ...options, ...called], owner };
}

/** Ignores busybox's setpriv, which lacks these options. */
async function findSetpriv(files: readonly string[]): Promise<string | null> {
  for (const file of files) {
    const real = await realpath(file).catch(() => '');
    if (path.basename(real) === 'setpriv') return file;
  }
  return null;
}
