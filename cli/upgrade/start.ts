/** Starts a successor, which has a pipe to this process as descriptor 3. */
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import type net from 'node:net';
import { text } from 'node:stream/consumers';
import { VproxyError } from '../../lib/errors.js';
import { withCapabilities } from '../../lib/system/capabilities.js';
import { describeError } from '../../lib/util/escape.js';
import type { SuccessorCommand } from './program.js';
import { PROGRAM_DESCRIPTORS } from './starting.js';

export interface StartedProcess {
  /** Resolves with its PID; null if it could not be started. */
  readonly pid: Promise<number | null>;
  /** Resolves with a description of how it exited. */
  readonly ended: Promise<string>;
  readonly pipe: net.Socket;
  /** Sends SIGKILL; resolves when it is sent. */
  kill(): Promise<void>;
}

/**
 * How many descriptors a start takes: both ends of each pipe, those by which the new process tells that it cannot run, and its
 * copies of those that get a higher number.
 */
const START_DESCRIPTORS = { child: 4, orphan: 8 } as const;

export type StartKind = keyof typeof START_DESCRIPTORS;

/** The path by which a process executes its own descriptor. */
const byDescriptor = (fd: number): string => `/proc/self/fd/${fd}`;

export function startChild({ file, args, descriptor }: SuccessorCommand, env: NodeJS.ProcessEnv): StartedProcess {
  requireDescriptors('child');
  const program = descriptor ?? 'ignore';
  const stdio: StdioOptions = ['inherit', 'inherit', 'inherit', 'pipe', program];
  const path = descriptor === null ? file : byDescriptor(PROGRAM_DESCRIPTORS.child);
  const child = withCapabilities(() => spawn(path, args, { argv0: file, env, stdio }));
  const ended = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(`could not be started: ${describeError(error)}`));
    child.once('exit', (status, signal) =>
      resolve(signal === null ? `exited with status ${status}` : `was killed by ${signal}`),
    );
  });
  const kill = () => Promise.resolve(void child.kill('SIGKILL'));
  return { pid: Promise.resolve(child.pid ?? null), ended, pipe: pipeOf(child), kill };
}

/** Runs the words in the background, with its own standard input instead of /dev/null, and prints the PID. */
const IN_BACKGROUND = '"$@" <&4 >&5 4<&- 5>&- & echo $!';

/**
 * Starts it through a shell that exits at once, so that it becomes a child of the service manager. systemd does not wait for a
 * main process that is not its own child: it would stop such a service with SIGKILL.
 */
export function startOrphan({ file, args, descriptor }: SuccessorCommand, env: NodeJS.ProcessEnv): StartedProcess {
  requireDescriptors('orphan');
  const words = [
    '-c',
    IN_BACKGROUND,
    'sh',
    descriptor === null ? file : byDescriptor(PROGRAM_DESCRIPTORS.orphan),
    ...args,
  ];
  const stdio: StdioOptions = ['ignore', 'pipe', 'inherit', 'pipe', 0, 1, descriptor ?? 'ignore'];
  const shell = withCapabilities(() => spawn('/bin/sh', words, { env, stdio }));
  const pipe = pipeOf(shell);
  const ended = new Promise<string>((resolve) => {
    shell.once('error', (error) => resolve(`could not be started: ${describeError(error)}`));
    pipe.once('close', () => resolve('exited'));
  });
  const pid = shell.stdout === null ? null : text(shell.stdout).then((said) => Number.parseInt(said, 10) || null);
  const kill = async () => {
    const number = await pid;
    try {
      if (number !== null && !pipe.destroyed) process.kill(number, 'SIGKILL');
    } catch {
      // It has exited.
    }
  };
  return { pid: Promise.resolve(pid), ended, pipe, kill };
}

/** Throws `upgrade-failed` without the free descriptors for a start: Node would leave a pipe open, and not tell which. */
export function requireDescriptors(kind: StartKind): void {
  const taken: number[] = [];
  try {
    while (taken.length < START_DESCRIPTORS[kind]) taken.push(openSync('/dev/null', 'r'));
  } catch (cause) {
    throw new VproxyError('upgrade-failed', `a successor cannot be started: ${describeError(cause)}`, { cause });
  } finally {
    for (const fd of taken) closeSync(fd);
  }
}

/** Throws `upgrade-failed` if there is none: the descriptors have run out, and Node reports that later. */
function pipeOf(child: ChildProcess): net.Socket {
  const stdio = child.stdio as typeof child.stdio | undefined;
  if (stdio !== undefined) return stdio[3] as net.Socket;
  child.on('error', () => undefined);
  throw new VproxyError('upgrade-failed', 'a successor cannot be started: too many open files (EMFILE)');
}
