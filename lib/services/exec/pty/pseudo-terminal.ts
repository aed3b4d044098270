/**
 * Pseudo-terminals: vproxy has the master, the command the slave. Node lacks the system calls; they come from the
 * optional package koffi.
 */
import { closeSync, constants, fchownSync, fstatSync, openSync } from 'node:fs';
import { loadLibc, type NativeCall } from '../../../system/libc.js';
import { type TerminalSize } from '../exec-messages.js';

const { O_RDWR, O_NOCTTY, O_NONBLOCK } = constants;

/** The descriptors of a pseudo-terminal; the caller closes them. */
export interface PseudoTerminal {
  /** Non-blocking. */
  readonly masterFd: number;
  readonly slaveFd: number;
  /** The path of the slave: `/dev/pts/7`. */
  readonly path: string;
}

/** Opens a pseudo-terminal owned by the user `ownerId` (default: of this process). Throws system errors. */
export function openPseudoTerminal(calls: TerminalCalls, size: TerminalSize, ownerId?: number): PseudoTerminal {
  const masterFd = openSync('/dev/ptmx', O_RDWR | O_NOCTTY | O_NONBLOCK);
  let slaveFd: number | null = null;
  try {
    const path = calls.unlock(masterFd);
    slaveFd = openSync(path, O_RDWR | O_NOCTTY);
    calls.resize(masterFd, size);
    calls.assumeUtf8(slaveFd);
    // Keep its group, which may write to terminals (`wall`).
    if (ownerId !== undefined) fchownSync(slaveFd, ownerId, fstatSync(slaveFd).gid);
    return { masterFd, slaveFd, path };
  } catch (error) {
    closeSync(masterFd);
    if (slaveFd !== null) closeSync(slaveFd);
    throw error;
  }
}

/** System calls on pseudo-terminals. Each throws on failure. */
export interface TerminalCalls {
  /** Unlocks the slave and returns its path: `/dev/pts/7`. */
  unlock(masterFd: number): string;
  /** Sets the terminal's size; a change signals the foreground group (SIGWINCH). */
  resize(masterFd: number, size: TerminalSize): void;
  /** Makes erase remove a whole UTF-8 character of a typed line. */
  assumeUtf8(slaveFd: number): void;
}

/** Loads {@link TerminalCalls}. Rejects as `import` does if koffi is missing. */
export type LoadTerminalCalls = () => Promise<TerminalCalls>;

const PATH_BYTES = 128;

/** More than `struct termios` takes on any system. */
const TERMIOS_BYTES = 256;

const IUTF8 = 0o40000;

const TCSANOW = 0;

/** `TIOCSWINSZ`, whose number is the same on most architectures. */
const SET_SIZE = ['mips', 'mipsel', 'ppc64'].includes(process.arch) ? 0x80087467 : 0x5414;

let loaded: Promise<TerminalCalls> | null = null;

/** Loads this machine's system calls, once. */
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
      if (result !== 0) throw new Error(`${what} failed (errno ${libc.errno()})`);
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
      // The input flags are the first word of the structure.
      const words = new Uint32Array(TERMIOS_BYTES / 4);
      const settings = Buffer.from(words.buffer);
      tcgetattr(slaveFd, settings);
      words[0] = (words[0] ?? 0) | IUTF8;
      tcsetattr(slaveFd, TCSANOW, settings);
    },
  };
}
