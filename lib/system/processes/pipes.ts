/**
 * Children with real pipes, through the optional package koffi. Node's "pipes" are unix sockets, which cannot be reopened:
 * `cat /dev/stdin` and `echo x > /dev/stdout` fail in them. FIFOs do not help: opening one waits for the other end, so
 * `cat /dev/stdin` would hang forever after the end of its input.
 */
import type { ChildProcessByStdio } from 'node:child_process';
import { closeSync, fchownSync } from 'node:fs';
import net, { type SocketConstructorOpts } from 'node:net';
import type { Readable, ReadableOptions, Writable } from 'node:stream';
import { shortageAt, shortageOfNext } from '../descriptors.js';
import { loadLibc, type NativeCall } from '../libc.js';
import type { StartedProcess } from './children.js';
import { loadPosixSpawn, type ProcessSpec } from './start-process.js';

/** The two ends of a pipe, as descriptors that children do not inherit by default. */
export interface PipeEnds {
  readonly readFd: number;
  readonly writeFd: number;
}

interface PipeOwner {
  readonly uid: number;
  readonly gid: number;
}

/** Creates pipes, which `owner` may reopen; the caller closes them. Null if pipes are not available. */
export type OpenPipes = (count: number, owner?: PipeOwner) => Promise<PipeEnds[] | null>;

const O_CLOEXEC = 0o2000000;

let loading: Promise<NativeCall | null> | null = null;
let pipe2: NativeCall | null = null;

/** Loads the support for pipes (10 ms, once per process); false if it is missing. */
export async function loadSystemPipes(): Promise<boolean> {
  loading ??= load().catch(() => null);
  pipe2 = await loading;
  return pipe2 !== null;
}

export const openSystemPipes: OpenPipes = async (count, owner) => {
  await loadSystemPipes();
  return openLoadedPipes(count, owner);
};

/** The same, synchronously; also null before {@link loadSystemPipes} is done. */
export function openLoadedPipes(count: number, owner?: PipeOwner): PipeEnds[] | null {
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
}

/** Creates a pipe, and writes its two descriptors to a buffer. Returns zero, or a negative number on failure. */
async function load(): Promise<NativeCall> {
  const libc = await loadLibc();
  const { loadRealTimeSignals } = await import('./real-time-signals.js');
  loadRealTimeSignals(libc);
  loadPosixSpawn(libc);
  return libc.declare('int pipe2(void *fds, int flags)');
}

/** A process with its own input and outputs. */
export interface PipedProcess extends Omit<StartedProcess, 'child'> {
  /** Null without an input. */
  readonly stdin: Writable | null;
  readonly stdout: Readable;
  /** Null if it is `stdout`. */
  readonly stderr: Readable | null;
  /** Closes the descriptors: no more reads or writes. */
  readonly release: () => void;
}

/**
 * Starts a process with `pipes` for its outputs, and its input if it has one; with unix sockets if `pipes` is null. The same pipe
 * twice is both outputs, as `stdout`. Rejects as `start` does, and if a descriptor is a reserved one.
 */
export async function spawnPiped(
  pipes: readonly PipeEnds[] | null,
  hasInput: boolean,
  start: (stdio: ProcessSpec['stdio']) => Promise<StartedProcess>,
): Promise<PipedProcess> {
  if (pipes === null) {
    requireNone(shortageOfNext(hasInput ? 3 : 2));
    const stdio = [hasInput ? 'pipe' : 'ignore', 'pipe', 'pipe'] as const;
    const { child, ...started } = await start(stdio);
    const { stdin, stdout, stderr } = child as ChildProcessByStdio<Writable | null, Readable, Readable>;
    // Node would end it when the process exits, and show that to what the process has left.
    if (child !== null) child.stdin = null;
    return withRelease(started, stdin, stdout, stderr);
  }
  const [output, error, input] = pipes as [PipeEnds, PipeEnds, PipeEnds | undefined];
  let started: StartedProcess;
  try {
    requireNone(shortageAt(Math.max(output.readFd, error.readFd, input?.writeFd ?? -1)));
    const stdio = [input?.readFd ?? 'ignore', output.writeFd, error.writeFd] as const;
    started = await start(stdio);
  } catch (failure) {
    closeAll(output.readFd, error.readFd, input?.writeFd);
    throw failure;
  } finally {
    closeAll(output.writeFd, error.writeFd, input?.readFd);
  }
  const stdin = input === undefined ? null : new net.Socket({ fd: input.writeFd, readable: false, writable: true });
  const stderr = error === output ? null : openOutput(error.readFd);
  return withRelease(started, stdin, openOutput(output.readFd), stderr);
}

function closeAll(...fds: readonly (number | undefined)[]): void {
  for (const fd of new Set(fds)) if (fd !== undefined) closeSync(fd);
}

function requireNone(shortage: string | null): void {
  if (shortage !== null) throw new Error(shortage);
}

function withRelease(
  { pid, ended }: Omit<StartedProcess, 'child'>,
  stdin: Writable | null,
  stdout: Readable,
  stderr: Readable | null,
): PipedProcess {
  const release = (): void => {
    for (const stream of [stdin, stdout, stderr]) stream?.destroy();
  };
  return { pid, ended, stdin, stdout, stderr, release };
}

/** With no reader it buffers a single chunk: the command may write single bytes, and a chunk costs more than those. */
function openOutput(fd: number): Readable {
  const options: SocketConstructorOpts & ReadableOptions = { fd, readable: true, writable: false, highWaterMark: 1 };
  return new net.Socket(options);
}
