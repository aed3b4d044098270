/**
 * A new pseudo-terminal: the end of vproxy (the master), and that of the command (the slave). Node does not have the system
 * calls for it; they come through the optional package koffi.
 */
import { closeSync, constants, fchownSync, fstatSync, openSync } from 'node:fs';
import { loadLibc, type NativeCall } from '../../system/libc.js';
import { type TerminalSize } from '../exec-messages.js';

const { O_RDWR, O_NOCTTY, O_NONBLOCK } = constants;

/** The descriptors of a pseudo-terminal, which the caller closes. */
export interface PseudoTerminal {
  /** Non-blocking. */
  readonly masterFd: number;
  readonly slaveFd: number;
  /** Of the slave: `/dev/pts/7`. */
  readonly path: string;
}

/** Opens a pseudo-terminal that belongs to the user `ownerId`, by default that of this process. Throws an error of the system. */
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

/** Calls of the system for the master of a pseudo-terminal. Each throws where the system refuses it. */
export interface TerminalCalls {
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
