/** Finds the running vproxy that a command is for. */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { askStatus } from '../../lib/control/client/plain-http.js';
import { controlFolder, isControlName, isControlSocketName } from '../../lib/control/socket-paths.js';
import { systemCode, VproxyError } from '../../lib/errors.js';
import type { ControlStatus } from '../../lib/status/types.js';
import { closestWord } from '../../lib/util/closest-word.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { badArgument } from './arguments.js';

interface SocketChoice {
  /** `--socket`. */
  readonly socket?: string | undefined;
  /** `--name`. */
  readonly name?: string | undefined;
  /** Default: that of `socketInEnvironment`. */
  readonly environment?: string | undefined;
  /** The folder of the control sockets; null if the user has none. Default: that of this user. */
  readonly folder?: string | null;
  /** The timeout for an answer of each of several processes, in milliseconds. */
  readonly answerMs?: number;
  /** Where other processes are looked for. Default `/proc`. */
  readonly proc?: string;
}

const ownFolder = (): string | null =>
  controlFolder({ isRoot: process.getuid?.() === 0, runtimeDirectory: process.env['XDG_RUNTIME_DIR'] ?? null });

/** The control socket that the environment names: for commands, or for the process that a container runs. */
export const socketInEnvironment = ({ VPROXY_SOCKET, VPROXY_CONTROL } = process.env): string | undefined =>
  VPROXY_SOCKET || /^(?:[^,]|,,)+/.exec(VPROXY_CONTROL ?? '')?.[0].replaceAll(',,', ',') || undefined;

/**
 * Resolves with the path of the control socket. Rejects with `bad-argument` if several match, and with
 * `control-unavailable` if none does.
 */
export async function findSocket({
  socket,
  name,
  environment = socketInEnvironment(),
  folder = ownFolder(),
  answerMs,
  proc = '/proc',
}: SocketChoice): Promise<string> {
  if (socket !== undefined && name !== undefined) throw badArgument('--socket: not allowed with --name');
  if (socket !== undefined) return socket;
  if (name !== undefined) return findName(name, folder, answerMs);
  if (environment) return environment;
  if (folder === null) throw await noneFound(`no running vproxy found: ${NO_FOLDER}`, proc);
  const paths = listSockets(folder);
  // The command itself will find out whether the only one answers.
  if (paths.length === 1 && paths[0] !== undefined) return paths[0];
  const running = await listRunning(paths, answerMs);
  const [only] = running;
  if (only === undefined) {
    throw await noneFound(`no running vproxy has a control socket in ${escapeText(folder)}`, proc);
  }
  if (running.length === 1) return only.path;
  const list = running.map(({ path, status }) => `${nameOf(path)} (PID ${status.process.pid})`).join(', ');
  throw badArgument(`several vproxy processes are running: ${list}; choose one with --name`);
}

const NO_FOLDER = 'XDG_RUNTIME_DIR is not set, so there is no folder of control sockets';

/** An error that names a process that runs elsewhere, and what it takes to reach it. Loads little: exec may need it. */
async function noneFound(message: string, proc: string): Promise<VproxyError> {
  const { listPids, programOf, readOf } = await import('../../lib/system/proc/proc.js');
  const isProxy = (pid: number) =>
    /^vproxy[^\0]*\0*$/.test(readOf(proc, pid, 'cmdline')) && programOf(proc, pid) === 'vproxy';
  const pid = listPids(proc).find(isProxy) ?? 0;
  const userId = statSync(`${proc}/${pid}`, { throwIfNoEntry: false })?.uid;
  const whose = userId === 0 ? 'root' : `user ${userId ?? 0}`;
  let hint = `PID ${pid} is of ${whose}: become that user, or start it with --control PATH,group=NAME and use --socket PATH`;
  if (userId === undefined) hint = 'start one, or use --socket PATH';
  else if (userId === process.getuid?.())
    hint = `PID ${pid} has its socket elsewhere: use --socket PATH (see vproxy ps)`;
  return new VproxyError('control-unavailable', `${message}; ${hint}`);
}

/** Looks for a file, or asks all processes if the name cannot be a file name. */
async function findName(name: string, folder: string | null, answerMs: number | undefined): Promise<string> {
  if (folder === null) throw new VproxyError('control-unavailable', `--name: ${NO_FOLDER}; use --socket PATH`);
  if (isControlName(name)) {
    const path = join(folder, `${name}.sock`);
    const close = existsSync(path) ? undefined : closestWord(name, listSockets(folder).map(nameOf));
    if (close === undefined) return path;
    throw new VproxyError('control-unavailable', `no running vproxy named "${name}"; did you mean ${close}?`);
  }
  const running = await listRunning(listSockets(folder), answerMs);
  const found = running.find(({ status }) => status.process.name === name);
  if (found !== undefined) return found.path;
  throw new VproxyError('control-unavailable', `no running vproxy named "${escapeText(name, 64)}"`);
}

/** Lists the processes in the usual folder that answer within `answerMs`, with the names that `--name` takes. */
export async function listProcesses(answerMs: number): Promise<{ name: string; status: ControlStatus }[]> {
  const folder = ownFolder();
  const running = folder === null ? [] : await listRunning(listSockets(folder), answerMs);
  return running.map(({ path, status }) => ({ name: basename(path, '.sock'), status }));
}

async function listRunning(paths: readonly string[], answerMs?: number) {
  const answers = await Promise.all(paths.map(async (path) => ({ path, status: await askStatus(path, answerMs) })));
  return answers.flatMap(({ path, status }) => (status === null ? [] : [{ path, status }]));
}

function listSockets(folder: string): string[] {
  try {
    const names = readdirSync(folder);
    return names
      .filter(isControlSocketName)
      .sort()
      .map((name) => join(folder, name));
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return [];
    const message = `cannot list control sockets in ${escapeText(folder)}: ${describeError(error)}`;
    throw new VproxyError('control-unavailable', message, { cause: error });
  }
}

const nameOf = (path: string): string => escapeText(basename(path, '.sock'));
