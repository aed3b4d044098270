/** A pseudo-terminal as two streams: typed input and output. */
import { closeSync, readSync } from 'node:fs';
import { Readable, type Writable } from 'node:stream';
import { openPipeHandle, pipeSocket } from '../../../system/handles.js';
import { typedInput } from './calling-shell.js';
import type { PseudoTerminal } from './pseudo-terminal.js';

export interface TerminalStreams {
  /** Whether the descriptors are still in use. */
  readonly isOpen: boolean;
  readonly input: Writable;
  readonly output: Readable;
  /** Ends the output after everything written to the terminal so far, and closes it. */
  readonly finish: () => void;
  /** Closes the terminal at once. */
  readonly close: () => void;
}

/** More than one read of a terminal returns, which is at most 4 KiB (N_TTY_BUF_SIZE of Linux). */
const READ_BYTES = 16_384;

/** Much more than the kernel buffers (about 12 KiB): later bytes were written after the end. */
const MAX_TAIL_BYTES = 1_048_576;

/**
 * Streams over a terminal; they take over its descriptors. The slave stays open, so that the terminal is not hung up
 * when for a moment no program has it open; hence only `finish` ends the output, or the kernel, when it hangs the terminal
 * up (vhangup). Null if this version of Node cannot; the caller then still owns the descriptors.
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
    // One chunk, as from a pipe: echoed input comes in single bytes.
    highWaterMark: 1,
    read: () => void socket.resume(),
    destroy: (error, done) => {
      close();
      done(error);
    },
  });
  const input = typedInput((bytes, done) => {
    // Drop input after the end.
    if (socket.destroyed) done();
    else socket.write(bytes, () => done());
  });
  const finish = (): void => {
    if (socket.destroyed) return;
    // Read the rest here: the event loop may not have seen it yet, and treats a hang-up as the end even if bytes are left.
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
  // The socket has already closed. Reads fail once nothing is left.
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

/** Reads what is left; 0 if nothing. */
function readNow(fd: number, buffer: Buffer): number {
  try {
    return readSync(fd, buffer);
  } catch {
    return 0;
  }
}
