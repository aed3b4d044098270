/** Runs a command with pipes for its input and its outputs. */

import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { closeSync, fchownSync } from 'node:fs';
import net, { type SocketConstructorOpts } from 'node:net';
import type { Readable, ReadableOptions, Writable } from 'node:stream';
import { ProcessGroup, spawned } from '../system/children.js';
import { loadLibc, type NativeCall } from '../system/libc.js';
import { spawnFailure } from './errors.js';
import type { CommandOptions, RunningCommand } from './running-command.js';

/**
 * Starts a command. Rejects with `command-not-found` or `command-failed`. Where no pipes are available
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
  const group = new ProcessGroup(child);
  const streams = [stdin, stdout, stderr].filter((stream) => stream !== null);
  // A pipe that breaks has ended, which is told by its end.
  for (const stream of streams) stream.on('error', () => undefined);
  return {
    pid: group.pid,
    stdin,
    stdout,
    stderr,
    ended: group.ended,
    resize: () => undefined,
    signal: (name) => group.signal(name),
    release: () => {
      for (const stream of streams) stream.destroy();
    },
  };
}

// Real pipes for commands, through the optional package koffi. What Node calls a pipe is a unix socket, which cannot be
// opened once more: `echo x > /dev/stdout` fails in one. FIFOs do not help: opening one waits for the other end, so
// `cat /dev/stdin` would wait for ever after the end of its input.

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

/** Makes this number of pipes, which `owner` may open once more; the caller closes them. Null where no pipes are available. */
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
