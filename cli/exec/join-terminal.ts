/** A command in a terminal, and the terminal that this process has, if it has one. */
import { isatty } from 'node:tty';
import { VproxyError } from '../../lib/errors.js';
import type { ExecCall } from '../../lib/exec/exec-call.js';
import type { TerminalRequest } from '../../lib/exec/messages.js';
import { LocalTerminal } from '../local-terminal.js';
import { EscapeKeys } from './escape-keys.js';

/** Whether standard input and output both are a terminal. */
export const isAtTerminal = (): boolean => isatty(0) && isatty(1);

/** What the command's terminal is to be, and how a call of it is joined to this process's. */
export interface JoinedTerminal {
  readonly request: TerminalRequest;
  /** False where this process has no terminal, or gives it no input: then all else is as without one. */
  readonly isLocal: boolean;
  /** Passes keys and sizes on. Throws, by `onFailure`, when the keys are those that end the call. */
  start(call: ExecCall, onFailure: (error: Error) => void): void;
  /** Gives the terminal back. */
  stop(): void;
}

/** The terminal for a command. */
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
