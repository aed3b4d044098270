/** Runs a command with pipes for its input and its outputs. */

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { closeSync, fchownSync } from 'node:fs';
import { realpath } from 'node:fs/promises';
import net, { type SocketConstructorOpts } from 'node:net';
import path from 'node:path';
import type { Readable, ReadableOptions, Writable } from 'node:stream';
import { VproxyError } from '../errors.js';
import { hasOtherGroups, type UserAccount } from '../system/accounts.js';
import { isGroupAlive, signalGroup } from '../system/children.js';
import { loadLibc, type NativeCall } from '../system/libc.js';
import { escapeText } from '../util/escape.js';
import type { ExecSystem } from './decide-command.js';
import { spawnFailure } from './errors.js';
import { type CommandOptions, type ProcessEnd, type RunningCommand, spawned } from './running-command.js';

/**
 * Starts a command. Rejects with `command-not-found` or `command-failed`. Where there are no pipes to be had
 * (koffi is missing), it has unix sockets instead, which it cannot open once more as `/dev/stdout`.
 */
export async function spawnWithPipes(
  options: CommandOptions,
  openPipes: OpenPipes = openSystemPipes,
): Promise<RunningCommand> {
  const hasInput = options.hasInput ?? true;
  const pipes = await openPipes(hasInput ? 3 : 2, options.owner);
  if (pipes === null) return spawnWithSockets(options, hasInput);
  const [output, error, input] = pipes as [PipeEnds, PipeEnds, PipeEnds | undefined];
  const theirs = [input?.readFd ?? ('ignore' as const), output.writeFd, error.writeFd];
  const ours = [output.readFd, error.readFd, ...(input === undefined ? [] : [input.writeFd])];
  let child: ChildProcess;
  try {
    child = await start(options, theirs);
  } catch (failure) {
    ours.forEach(closeSync);
    throw failure;
  } finally {
    for (const fd of theirs) if (fd !== 'ignore') closeSync(fd);
  }
  return running(child, {
    stdin: input === undefined ? null : new net.Socket({ fd: input.writeFd, readable: false, writable: true }),
    stdout: openOutput(output.readFd),
    stderr: openOutput(error.readFd),
  });
}

/** Where nobody takes it, it keeps one piece: the command may write single bytes, and a piece costs more than those. */
function openOutput(fd: number): Readable {
  const options: SocketConstructorOpts & ReadableOptions = { fd, readable: true, writable: false, highWaterMark: 1 };
  return new net.Socket(options);
}

async function spawnWithSockets(options: CommandOptions, hasInput: boolean): Promise<RunningCommand> {
  const child = await start(options, [hasInput ? 'pipe' : 'ignore', 'pipe', 'pipe']);
  const { stdin, stdout, stderr } = child;
  return running(child, { stdin, stdout: stdout as Readable, stderr: stderr as Readable });
}

async function start(options: CommandOptions, stdio: NonNullable<SpawnOptions['stdio']>): Promise<ChildProcess> {
  const { file, argv, cwd, env, uid, gid } = options;
  const ids = { ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) };
  try {
    const child = spawn(file, argv.slice(1), { argv0: argv[0] ?? file, cwd, env, ...ids, stdio, detached: true });
    return await spawned(child);
  } catch (error) {
    throw spawnFailure(error, options);
  }
}

interface Pipes {
  readonly stdin: Writable | null;
  readonly stdout: Readable;
  readonly stderr: Readable;
}

function running(child: ChildProcess, { stdin, stdout, stderr }: Pipes): RunningCommand {
  const pid = child.pid as number;
  // The number of a group that has gone may become another one's.
  let isGone = false;
  const ended = new Promise<ProcessEnd>((resolve) => {
    child.once('exit', (status, signal) => {
      isGone = !isGroupAlive(pid);
      resolve({ status, signal });
    });
  });
  const streams = [stdin, stdout, stderr].filter((stream) => stream !== null);
  // A pipe that breaks has ended, which is told by its end.
  for (const stream of streams) stream.on('error', () => undefined);
  child.on('error', () => undefined);
  return {
    pid,
    stdin,
    stdout,
    stderr,
    ended,
    resize: () => undefined,
    signal: (name) => {
      if (!isGone) isGone = !signalGroup(pid, name);
    },
    release: () => {
      for (const stream of streams) stream.destroy();
    },
  };
}

// How a command becomes another user's.

/** What of a command depends on its user. */
type CommandUser = Pick<CommandOptions, 'file' | 'argv' | 'uid' | 'gid' | 'owner'>;

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
  const setpriv = hasOtherGroups(user, system.groupFile) ? await findSetpriv(system.setprivFiles) : null;
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

// Real pipes for commands, through the optional package koffi. What Node calls a pipe is a unix socket, which cannot be
// opened once more: `echo x > /dev/stdout` fails in one. FIFOs are no way out: to open one waits for the other end, so
// `cat /dev/stdin` would wait for ever behind the end of its input.

/** The two ends of a pipe, as descriptors that no child inherits by itself. */
interface PipeEnds {
  readonly readFd: number;
  readonly writeFd: number;
}

/** A user, by numbers. */
interface PipeOwner {
  readonly uid: number;
  readonly gid: number;
}

/** So many pipes, which `owner` may open once more; they are the caller's to close. Null where there are none to be had. */
export type OpenPipes = (count: number, owner?: PipeOwner) => Promise<PipeEnds[] | null>;

const O_CLOEXEC = 0o2000000;

let loading: Promise<NativeCall | null> | null = null;

/** Loads what {@link openSystemPipes} needs; false where that is missing. It takes 10 ms, once in a process. */
export async function loadSystemPipes(): Promise<boolean> {
  loading ??= load().catch(() => null);
  return (await loading) !== null;
}

/** Pipes of this machine. */
export const openSystemPipes: OpenPipes = async (count, owner) => {
  loading ??= load().catch(() => null);
  const pipe2 = await loading;
  if (pipe2 === null) return null;
  const pipes: PipeEnds[] = [];
  try {
    while (pipes.length < count) {
      const fds = new Int32Array(2);
      if (pipe2(Buffer.from(fds.buffer), O_CLOEXEC) !== 0) throw new Error('the system has no pipe');
      const [readFd = -1, writeFd = -1] = fds;
      pipes.push({ readFd, writeFd });
      if (owner !== undefined) fchownSync(readFd, owner.uid, owner.gid);
    }
    return pipes;
  } catch {
    for (const { readFd, writeFd } of pipes) [readFd, writeFd].forEach(closeSync);
    return null;
  }
};

/** It makes a pipe, and writes its two descriptors to a buffer. Zero, or less where the system refuses. */
const load = async (): Promise<NativeCall> => (await loadLibc()).declare('int pipe2(void *fds, int flags)');
