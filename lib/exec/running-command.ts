/** A command that runs, with pipes or in a terminal. */

import type { Readable, Writable } from 'node:stream';
import type { ProcessEnd } from '../system/processes/children.js';
import type { TerminalSize } from './exec-messages.js';

/** What a command is run with: everything is decided, nothing is looked up any more. */
export interface CommandOptions {
  /** The absolute path of the program. */
  readonly file: string;
  /** All arguments, the name by which the program is called first. */
  readonly argv: readonly string[];
  readonly cwd: string;
  /** The whole environment. */
  readonly env: Readonly<Record<string, string>>;
  /** Default: those of this process. */
  readonly uid?: number;
  readonly gid?: number;
  /**
   * Who gets its pipes, or its terminal, so that it can open them once more (`/dev/stdout`): also set where the program
   * changes the user by itself. Default: this process.
   */
  readonly owner?: { readonly uid: number; readonly gid: number };
  /** False: its standard input is `/dev/null`; of no meaning in a terminal. Default true. */
  readonly hasInput?: boolean;
}

/**
 * A process in a group of its own, of which it is the first. Its outputs end when everybody who has them open has closed
 * them, and none of their bytes is lost, however fast the process ends.
 */
export interface RunningCommand {
  readonly pid: number;
  /** Ends with the process's reading end: writes behind that are dropped. Null where it has no input. */
  readonly stdin: Writable | null;
  readonly stdout: Readable;
  /** Null in a terminal, where it comes with `stdout`. */
  readonly stderr: Readable | null;
  /** Resolved when the process has ended; never rejected. Its outputs may hold bytes, and be open, still. */
  readonly ended: Promise<ProcessEnd>;
  /** Tells a terminal its size; without one it does nothing. */
  resize(size: TerminalSize): void;
  /** Signals the whole process group; does nothing once all of it has gone. */
  signal(name: NodeJS.Signals): void;
  /** Gives the descriptors back: nothing is read or written any more. */
  release(): void;
}
