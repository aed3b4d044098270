/**
 * Real pipes for commands, through the optional package koffi. What Node calls a pipe is a unix socket, which cannot be
 * opened once more: `echo x > /dev/stdout` fails in one. FIFOs are no way out: to open one waits for the other end, so
 * `cat /dev/stdin` would wait for ever behind the end of its input.
 */
import { closeSync, fchownSync } from 'node:fs';
import { loadLibc, type NativeCall } from '../util/load-libc.js';

/** The two ends of a pipe, as descriptors that no child inherits by itself. */
export interface PipeEnds {
  readonly readFd: number;
  readonly writeFd: number;
}

/** A user, by numbers. */
export interface PipeOwner {
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
