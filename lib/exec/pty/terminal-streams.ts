/** A pseudo-terminal as two streams: what is typed into it, and what it shows. */
import { closeSync, readSync } from 'node:fs';
import { Readable, type Writable } from 'node:stream';
import { openPipeHandle, pipeSocket } from '../../system/handles.js';
import { typedInput } from './calling-shell.js';
import type { PseudoTerminal } from './pseudo-terminal.js';

/** The two streams of a terminal. */
export interface TerminalStreams {
  /** Whether the descriptors are still in use. */
  readonly isOpen: boolean;
  readonly input: Writable;
  readonly output: Readable;
  /** Ends the output behind everything that has been written to the terminal until now, and closes it. */
  readonly finish: () => void;
  /** Closes it at once. */
  readonly close: () => void;
}

/** A read of a terminal gives less. */
const READ_BYTES = 65_536;

/** Much more than the kernel keeps of what nobody has read (some 12 KiB): what comes behind was written later. */
const MAX_TAIL_BYTES = 1_048_576;

/**
 * Streams over a terminal, whose descriptors they own from now on. The slave is kept open, so nothing is hung up because
 * for a moment no program has it; that makes `finish` the only end. Should the kernel hang the terminal up (vhangup), the
 * output ends all the same. Null where this version of Node cannot; the descriptors are the caller's then, as before.
 */
export function openTerminalStreams({ masterFd, slaveFd }: PseudoTerminal): TerminalStreams | null {
  const handle = openPipeHandle(masterFd);
  if (handle === null) return null;
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  const take = (byteCount: number): boolean => output.push(Buffer.from(buffer.subarray(0, byteCount)));
  const socket = pipeSocket(handle, { buffer: () => buffer, callback: take });
  const close = (): void => {
    socket.destroy();
  };
  const output = new Readable({
    // One piece, as of a pipe: what is typed on a screen comes in single bytes.
    highWaterMark: 1,
    read: () => void socket.resume(),
    destroy: (error, done) => {
      close();
      done(error);
    },
  });
  const input = typedInput((bytes, done) => {
    // What is typed behind the end has nobody to read it.
    if (socket.destroyed) done();
    else socket.write(bytes, () => done());
  });
  const finish = (): void => {
    if (socket.destroyed) return;
    // The event loop may not have seen them yet, and takes a hang-up for the end even where bytes are left.
    for (let total = 0; total < MAX_TAIL_BYTES; ) {
      const byteCount = readNow(masterFd, buffer);
      if (byteCount === 0) break;
      total += byteCount;
      take(byteCount);
    }
    output.push(null);
    close();
  };
  socket.pause();
  socket.on('end', finish);
  // It is closed already. A read fails where nothing is left.
  socket.on('error', () => output.push(null));
  socket.once('close', () => closeSync(slaveFd));
  return {
    get isOpen() {
      return !socket.destroyed;
    },
    input,
    output,
    finish,
    close,
  };
}

/** Zero where nothing is left. */
function readNow(fd: number, buffer: Buffer): number {
  try {
    return readSync(fd, buffer);
  } catch {
    return 0;
  }
}
