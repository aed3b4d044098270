/** Runs a command in a pseudo-terminal of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, constants, fchownSync, fstatSync, openSync } from 'node:fs';
import { VproxyError } from '../../errors.js';
import { isGroupAlive, signalGroup } from '../../system/children.js';
import { loadLibc, type NativeCall } from '../../system/libc.js';
import { describeError, escapeText } from '../../util/escape.js';
import { spawnFailure } from '../errors.js';
import type { TerminalRequest, TerminalSize } from '../messages.js';
import { type CommandOptions, type ProcessEnd, type RunningCommand, spawned } from '../running-command.js';
import { callProgram } from './calling-shell.js';
import { spawnWithScript } from './spawn-with-script.js';
import { openTerminalStreams, type TerminalStreams } from './terminal-streams.js';

/**
 * Starts a command that leads a session and its foreground group in a terminal of the given size, which belongs to its
 * user. `TERM` is the terminal's unless `env` has another. Rejects with `command-not-found` or `command-failed`.
 *
 * What is written to `stdin` is typed: Ctrl-C is the byte 0x03. Its end is Ctrl-D. While the terminal gathers lines, as it
 * does at first, it keeps 4095 bytes of a line and drops what comes before its end; else writing waits for the reader.
 *
 * As with ssh, `stdout` ends when the command has, after everything that was written until then; processes that it left
 * behind are hung up. So does `release`.
 *
 * Without koffi it is script(1) of util-linux that makes the terminal.
 */
export async function spawnInTerminal(
  options: CommandOptions,
  terminal: TerminalRequest,
  loadCalls: LoadTerminalCalls = loadTerminalCalls,
): Promise<RunningCommand> {
  const withTerm = { ...options, env: { TERM: terminal.term, ...options.env } };
  const calls = await loadCalls().catch(() => null);
  const opened = calls === null ? null : open(calls, options, terminal);
  if (calls === null || opened === null) return spawnWithScript(withTerm, terminal);
  return run(withTerm, calls, opened);
}

interface Opened extends PseudoTerminal {
  readonly streams: TerminalStreams;
}

/** Null where this version of Node cannot read a terminal. */
function open(calls: TerminalCalls, { file, owner, uid }: CommandOptions, size: TerminalSize): Opened | null {
  let pty: PseudoTerminal;
  try {
    pty = openPseudoTerminal(calls, size, owner?.uid ?? uid);
  } catch (cause) {
    const why = `no terminal could be opened: ${describeError(cause)}`;
    throw new VproxyError('command-failed', `${escapeText(file, 200)}: ${why}`, { cause });
  }
  const streams = openTerminalStreams(pty);
  if (streams !== null) return { ...pty, streams };
  closeSync(pty.masterFd);
  closeSync(pty.slaveFd);
  return null;
}

async function run(options: CommandOptions, calls: TerminalCalls, opened: Opened): Promise<RunningCommand> {
  const { masterFd, streams } = opened;
  const child = await start(options, opened).catch((error: unknown) => {
    streams.close();
    throw error;
  });
  const pid = child.pid as number;
  let isGone = false;
  const ended = new Promise<ProcessEnd>((resolve) => {
    child.once('exit', (status, signal) => {
      streams.finish();
      // The number of a group that has gone may become another one's.
      isGone = !isGroupAlive(pid);
      resolve({ status, signal });
    });
  });
  child.on('error', () => undefined);
  return {
    pid,
    stdin: streams.input,
    stdout: streams.output,
    stderr: null,
    ended,
    resize: (size) => {
      if (streams.isOpen) calls.resize(masterFd, size);
    },
    signal: (name) => {
      if (!isGone) isGone = !signalGroup(pid, name);
    },
    release: () => {
      streams.input.destroy();
      streams.output.destroy();
    },
  };
}

async function start(options: CommandOptions, { slaveFd, path }: PseudoTerminal): Promise<ChildProcess> {
  const { cwd, env, uid, gid } = options;
  const { file, args } = callProgram(options.file, options.argv, { path });
  const ids = { ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) };
  try {
    // Detached: the leader of a session, which has no terminal yet.
    const child = spawn(file, args, { cwd, env, ...ids, stdio: [slaveFd, slaveFd, 'ignore'], detached: true });
    return await spawned(child);
  } catch (error) {
    throw spawnFailure(error, options);
  }
}

// A new pseudo-terminal: the end that vproxy has (the master), and the one of the command (the slave).

/** Its descriptors, which are the caller's to close. */
export interface PseudoTerminal {
  /** Non-blocking. */
  readonly masterFd: number;
  readonly slaveFd: number;
  /** Of the slave: `/dev/pts/7`. */
  readonly path: string;
}

const { O_RDWR, O_NOCTTY, O_NONBLOCK } = constants;

/** Opens one; `ownerId` is the user whom it belongs to, default that of this process. Throws an error of the system. */
export function openPseudoTerminal(calls: TerminalCalls, size: TerminalSize, ownerId?: number): PseudoTerminal {
  const masterFd = openSync('/dev/ptmx', O_RDWR | O_NOCTTY | O_NONBLOCK);
  let slaveFd: number | null = null;
  try {
    const path = calls.unlock(masterFd);
    slaveFd = openSync(path, O_RDWR | O_NOCTTY);
    calls.resize(masterFd, size);
    calls.assumeUtf8(slaveFd);
    // Its group is the one that may write to terminals (`wall`).
    if (ownerId !== undefined) fchownSync(slaveFd, ownerId, fstatSync(slaveFd).gid);
    return { masterFd, slaveFd, path };
  } catch (error) {
    closeSync(masterFd);
    if (slaveFd !== null) closeSync(slaveFd);
    throw error;
  }
}

// The system calls of pseudo-terminals that Node does not have, through the optional package koffi.

/** Calls of the system for the master of a pseudo-terminal. Each throws where the system refuses it. */
interface TerminalCalls {
  /** Lets its terminal be opened, and gives the path: `/dev/pts/7`. */
  unlock(masterFd: number): string;
  /** Tells the terminal its size; the foreground group is signalled (SIGWINCH) if that is new. */
  resize(masterFd: number, size: TerminalSize): void;
  /** Has erasing remove a whole character of UTF-8 in a line that is typed. */
  assumeUtf8(slaveFd: number): void;
}

/** Makes {@link TerminalCalls}. Rejects as `import` does where koffi is missing. */
export type LoadTerminalCalls = () => Promise<TerminalCalls>;

const PATH_BYTES = 128;

/** More than `struct termios` has anywhere. */
const TERMIOS_BYTES = 256;
const IUTF8 = 0o40000;
const TCSANOW = 0;

/** `TIOCSWINSZ`, which most architectures number alike. */
const SET_SIZE = ['mips', 'mipsel', 'ppc64'].includes(process.arch) ? 0x80087467 : 0x5414;

let loaded: Promise<TerminalCalls> | null = null;

/** The calls of this machine. */
export const loadTerminalCalls: LoadTerminalCalls = () => {
  loaded ??= load().catch((error: unknown) => {
    loaded = null;
    throw error;
  });
  return loaded;
};

async function load(): Promise<TerminalCalls> {
  const libc = await loadLibc();
  const call = (what: string, declaration: string): NativeCall => {
    const native = libc.declare(declaration);
    return (...args) => {
      const result = native(...args);
      if (result !== 0) throw new Error(`${what}: error ${libc.errno()} of the system`);
      return result;
    };
  };
  const unlockpt = call('unlockpt', 'int unlockpt(int fd)');
  const ptsname = call('ptsname_r', 'int ptsname_r(int fd, void *path, size_t length)');
  const ioctl = call('TIOCSWINSZ', 'int ioctl(int fd, unsigned long request, void *argument)');
  const tcgetattr = call('tcgetattr', 'int tcgetattr(int fd, void *settings)');
  const tcsetattr = call('tcsetattr', 'int tcsetattr(int fd, int when, const void *settings)');
  return {
    unlock(masterFd) {
      unlockpt(masterFd);
      const path = Buffer.alloc(PATH_BYTES);
      ptsname(masterFd, path, PATH_BYTES);
      return path.toString('utf8', 0, path.indexOf(0));
    },
    resize(masterFd, { columns, rows }) {
      ioctl(masterFd, SET_SIZE, Buffer.from(new Uint16Array([rows, columns, 0, 0]).buffer));
    },
    assumeUtf8(slaveFd) {
      // The flags for input are the first word of the structure.
      const words = new Uint32Array(TERMIOS_BYTES / 4);
      const settings = Buffer.from(words.buffer);
      tcgetattr(slaveFd, settings);
      words[0] = (words[0] ?? 0) | IUTF8;
      tcsetattr(slaveFd, TCSANOW, settings);
    },
  };
}
