/** Where the programs of the demonstration run: this machine, or a guest. */

/** The programs that the demonstration starts. */
export type ProgramName = 'vproxy' | 'sink' | 'push';

/** A program that runs in the background. */
export interface Program {
  /** Resolves with the first matching line on stderr. Rejects, with the log, when it exits without one, or times out. */
  waitForLine(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray>;
  /** The newest line of its log. */
  lastLine(): Promise<string>;
  /** Kills it, as when a machine goes down, and waits for its exit. */
  kill(): Promise<void>;
  /** Stops it, and waits for its exit. */
  stop(): Promise<void>;
}

/** The result of a command. */
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
