/**
 * Children with real pipes, through the optional package koffi. What Node calls a pipe is a unix socket, which cannot be
 * opened once more: `cat /dev/stdin` and `echo x > /dev/stdout` fail in one. FIFOs do not help: opening one waits for the
 * other end, so `cat /dev/stdin` would wait for ever after the end of its input.
 */
import type { ChildProcess, StdioOptions } from 'node:child_process';
import { closeSync, fchownSync } from 'node:fs';
import net, { type SocketConstructorOpts } from 'node:net';
import type { Readable, ReadableOptions, Writable } from 'node:stream';
import { shortageAt, shortageOfNext } from '../descriptors.js';
import { loadLibc, type NativeCall } from '../libc.js';

/** The two ends of a pipe, as descriptors that no child inherits by itself. */
export interface PipeEnds {
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
let pipe2: NativeCall | null = null;

/** Loads what pipes need; false where that is missing. It takes 10 ms, once in a process. */
export async function loadSystemPipes(): Promise<boolean> {
  loading ??= load().catch(() => null);
  pipe2 = await loading;
  return pipe2 !== null;
}

/** Pipes of this machine. */
export const openSystemPipes: OpenPipes = async (count, owner) => {
  await loadSystemPipes();
  return openLoadedPipes(count, owner);
};

/** The same at once; null also before {@link loadSystemPipes} is done. */
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

/** It makes a pipe, and writes its two descriptors to a buffer. Zero, or less where the system refuses. */
const load = async (): Promise<NativeCall> => (await loadLibc()).declare('int pipe2(void *fds, int flags)');

/** A child whose input and outputs are its own. */
export interface PipedChild {
  readonly child: ChildProcess;
  /** Null where it has no input. */
  readonly stdin: Writable | null;
  /** Null, as its error, where the child could not be started. */
  readonly stdout: Readable | null;
  readonly stderr: Readable | null;
  /** Gives the descriptors back: nothing is read or written any more. */
  readonly release: () => void;
}

/**
 * Starts a child with `pipes` for its outputs, and for its input where it has one; null: with unix sockets. Throws what
 * `start` throws, and where one of their descriptors is one of the last.
 */
export function spawnPiped(
  pipes: readonly PipeEnds[] | null,
  hasInput: boolean,
  start: (stdio: StdioOptions) => ChildProcess,
): PipedChild {
  if (pipes === null) {
    requireNone(shortageOfNext(hasInput ? 3 : 2));
    const child = start([hasInput ? 'pipe' : 'ignore', 'pipe', 'pipe']);
    return withRelease(child, child.stdin, child.stdout, child.stderr);
  }
  const [output, error, input] = pipes as [PipeEnds, PipeEnds, PipeEnds | undefined];
  let child: ChildProcess;
  try {
    requireNone(shortageAt(Math.max(output.readFd, error.readFd, input?.writeFd ?? -1)));
    child = start([input?.readFd ?? 'ignore', output.writeFd, error.writeFd]);
  } catch (failure) {
    for (const fd of [output.readFd, error.readFd, input?.writeFd]) if (fd !== undefined) closeSync(fd);
    throw failure;
  } finally {
    for (const fd of [output.writeFd, error.writeFd, input?.readFd]) if (fd !== undefined) closeSync(fd);
  }
  const stdin = input === undefined ? null : new net.Socket({ fd: input.writeFd, readable: false, writable: true });
  return withRelease(child, stdin, openOutput(output.readFd), openOutput(error.readFd));
}

function requireNone(shortage: string | null): void {
  if (shortage !== null) throw new Error(shortage);
}

type Nullable<Value> = Value | null | undefined;

/** Without descriptors for them Node makes no streams, against its types. */
function withRelease(
  child: ChildProcess,
  stdin: Nullable<Writable>,
  stdout: Nullable<Readable>,
  stderr: Nullable<Readable>,
): PipedChild {
  const release = (): void => {
    for (const stream of [stdin, stdout, stderr]) stream?.destroy();
  };
  return { child, stdin: stdin ?? null, stdout: stdout ?? null, stderr: stderr ?? null, release };
}

/** Where nobody takes it, it keeps one piece: the command may write single bytes, and a piece costs more than those. */
function openOutput(fd: number): Readable {
  const options: SocketConstructorOpts & ReadableOptions = { fd, readable: true, writable: false, highWaterMark: 1 };
  return new net.Socket(options);
}
