/** A command in a terminal, and the terminal that this process has, if it has one. */
import { isatty } from 'node:tty';
import { VproxyError } from '../../lib/errors.js';
import type { ExecCall } from '../../lib/exec/exec-call.js';
import type { TerminalRequest } from '../../lib/exec/exec-messages.js';
import { LocalTerminal } from '../ui/local-terminal.js';

/** Whether standard input and output both are a terminal. */
export const isAtTerminal = (): boolean => isatty(0) && isatty(1);

/** The terminal to request for the command, and how its call is joined to that of this process. */
export interface JoinedTerminal {
  readonly request: TerminalRequest;
  /** False where this process has no terminal, or gives it no input: then all else is as without one. */
  readonly isLocal: boolean;
  /** Passes keys and sizes on. Throws, by `onFailure`, when the keys are those that end the call. */
  start(call: ExecCall, onFailure: (error: Error) => void): void;
  /** Gives the terminal back. */
  stop(): void;
}

export function joinTerminal(hasInput: boolean): JoinedTerminal {
  const local = new LocalTerminal();
  return {
    request: local.request,
    isLocal: hasInput && LocalTerminal.isThere(),
    start: (call, onFailure) => {
      const keys = new EscapeKeys();
      local.onResize((size) => call.resize(size));
      local.start();
      process.stdin.on('data', (bytes: Buffer) => {
        const kept = keys.read(bytes);
        if (kept === null) onFailure(new VproxyError('exec-unavailable', 'the call was ended by ~.'));
        else call.stdin.write(kept);
      });
      process.stdin.once('end', () => call.stdin.end());
    },
    stop: () => local.stop(),
  };
}

// The way out of a terminal whose command does not answer any more, as in ssh.

const TILDE = 0x7e;
const DOT = 0x2e;

/** Looks for `~.` at the beginning of a line of what is typed; `~~` is one tilde. */
export class EscapeKeys {
  #isAtStart = true;
  #hasTilde = false;

  /** The part of these bytes that is for the command; null where they end the call. */
  read(bytes: Buffer): Buffer | null {
    const kept: number[] = [];
    for (const byte of bytes) {
      if (this.#hasTilde && byte === DOT) return null;
      if (this.#isAtStart && !this.#hasTilde && byte === TILDE) {
        this.#hasTilde = true;
        continue;
      }
      if (this.#hasTilde && byte !== TILDE) kept.push(TILDE);
      this.#hasTilde = false;
      kept.push(byte);
      this.#isAtStart = byte === 0x0d || byte === 0x0a;
    }
    return Buffer.from(kept);
  }
}
