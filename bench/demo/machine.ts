/** Where the programs of the demonstration run: this machine, or a guest. */

/** The programs that the demonstration starts. */
export type ProgramName = 'vproxy' | 'sink' | 'push';

/** A program that runs in the background. */
export interface Program {
  /** The first line that it wrote to stderr and that matches. Rejects, with its log, when it ends without one, or too late. */
  waitForLine(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray>;
  /** The newest line of its log. */
  lastLine(): Promise<string>;
  /** Kills it, as a machine that goes down does, and waits until it is gone. */
  kill(): Promise<void>;
  /** Ends it, and waits until it is gone. */
  stop(): Promise<void>;
}

/** What a command did. */
export interface CommandResult {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number | null;
}

export interface Machine {
  start(program: ProgramName, args: readonly string[]): Promise<Program>;
  /** Runs the storage wrapper under the name of the vendor's utility. */
  runUtility(args: readonly string[]): Promise<CommandResult>;
}
