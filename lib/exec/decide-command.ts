/** From what a caller asks for to what is run: whether it may, which program, as whom, where, with which environment. */
import { stat } from 'node:fs/promises';
import path from 'node:path';
import { systemCode, VproxyError } from '../errors.js';
import { escapeText } from '../util/escape.js';
import { type ExecRules, findEntry } from './allowed-programs.js';
import { cleanEnvironment, requireHarmlessEnvironment } from './clean-environment.js';
import type { ExecSystem } from './exec-system.js';
import { findProgram, lookAt, requireRunnable } from './find-program.js';
import type { ExecRequest } from './messages.js';
import type { CommandOptions } from './running-command.js';
import { requireSwitch, switchUser } from './switch-user.js';
import { describeUser, findUser, type UserAccount } from './user-account.js';

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
  const user = await chooseUser(request, system);
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

async function chooseUser({ user: name }: ExecRequest, system: ExecSystem): Promise<UserAccount> {
  if (name === undefined) return describeUser(system.uid, system.gid, system.passwdFile);
  const user = await findUser(name, system.passwdFile);
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
