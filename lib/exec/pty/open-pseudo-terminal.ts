/** A new pseudo-terminal: the end that vproxy has (the master), and the one of the command (the slave). */
import { closeSync, constants, fchownSync, fstatSync, openSync } from 'node:fs';
import type { TerminalSize } from '../messages.js';
import type { TerminalCalls } from './terminal-calls.js';

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
