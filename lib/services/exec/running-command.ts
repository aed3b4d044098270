/** A running command, with pipes or in a terminal. */

import type { Readable, Writable } from 'node:stream';
import type { ProcessEnd } from '../../system/processes/children.js';
import type { TerminalSize } from './exec-messages.js';

/** How to run a command: everything is decided and looked up. */
export interface CommandOptions {
  /** The absolute path of the program. */
  readonly file: string;
  /** All arguments, including `argv[0]`. */
  readonly argv: readonly string[];
  readonly cwd: string;
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  /** User and group. Default: those of this process. */
  readonly uid?: number;
  readonly gid?: number;
  /**
   * The owner of its pipes or terminal, so that it can reopen them (`/dev/stdout`). Also set if the program itself
   * switches the user. Default: this process.
   */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** False: its standard input is `/dev/null`; ignored in a terminal. Default true. */
  readonly hasInput?: boolean;
  /** Whether its outputs are one pipe, `stdout`, so that their order is kept; ignored in a terminal. Default false. */
  readonly hasOneOutput?: boolean;
  /** Asked when it is its turn to start, which may be late: throws if it must not start any more. */
  readonly requireWanted?: () => void;
}

/**
 * A process that leads a process group of its own. Its outputs end when every process has closed them, and no output is
 * lost, however fast the process exits.
 */
export interface RunningCommand {
  readonly pid: number;
  /** Closes when the process closes its reading end; later writes are dropped. Null if it has no input. */
  readonly stdin: Writable | null;
  readonly stdout: Readable;
  /** Null in a terminal, and for a single pipe, where it is part of `stdout`. */
  readonly stderr: Readable | null;
  /** Resolves when the process has exited; never rejects. Its outputs may still be open and hold data. */
  readonly ended: Promise<ProcessEnd>;
  /** Resizes the terminal; no effect without one. */
  resize(size: TerminalSize): void;
  /** Signals the whole process group; no effect once it has exited. */
  signal(name: NodeJS.Signals): void;
  /** Closes the descriptors. */
  release(): void;
}
