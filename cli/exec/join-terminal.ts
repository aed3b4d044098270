/** Joins a command's terminal to that of this process, if it has one. */
import { isatty } from 'node:tty';
import { VproxyError } from '../../lib/errors.js';
import type { ExecCall } from '../../lib/services/exec/exec-call.js';
import type { TerminalRequest } from '../../lib/services/exec/exec-messages.js';
import { LocalTerminal } from '../ui/local-terminal.js';

export const isAtTerminal = (): boolean => isatty(0) && isatty(1);

/** The terminal to request for the command, and its connection to the local one. */
export interface JoinedTerminal {
  readonly request: TerminalRequest;
  /** False if this process has no terminal, or passes no input: everything else is then as without one. */
  readonly isLocal: boolean;
  /** Forwards keys and sizes. Calls `onFailure` when the escape keys are typed. */
  start(call: ExecCall, onFailure: (error: Error) => void): void;
  /** Restores the terminal. */
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
        if (kept === null) onFailure(new VproxyError('exec-unavailable', 'disconnected by ~.'));
        else call.stdin.write(kept);
      });
      process.stdin.once('end', () => call.stdin.end());
    },
    stop: () => local.stop(),
  };
}

// The way out of a terminal whose command no longer answers, as in ssh.

const TILDE = 0x7e;
const DOT = 0x2e;

/** Looks for `~.` typed at the beginning of a line; `~~` is one tilde. */
export class EscapeKeys {
  #isAtStart = true;
  #hasTilde = false;

  /** Returns the bytes for the command; null if they end the call. */
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
