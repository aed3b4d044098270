/** What a command that steers a running vproxy is made of. Types alone. */
import type { Arguments } from './arguments.js';

/** One option. */
export interface CommandOption {
  /** What its value is called in the help, such as `SECONDS`; without one it is a flag. */
  readonly value?: string;
  /** Its letter. */
  readonly short?: string;
  /** Whether it may be given more than once. Default false. */
  readonly isRepeatable?: boolean;
  readonly describe: string;
  /** Whether it is taken, and not listed in the help. Default false. */
  readonly isHidden?: boolean;
}

/** The options of a command by their long names. */
export type CommandOptions = Readonly<Record<string, CommandOption>>;

/** One command: each file in cli/commands/ has one. */
export interface Command {
  /** What stands behind `vproxy` in its usage, such as `ping [-c COUNT]`. */
  readonly usage: string;
  /** What it does, in sentences for the help. */
  readonly about: string;
  /** Whether it needs no vproxy that runs. Default false. */
  readonly isLocal?: boolean;
  /** Its own options; `--help` is added, and `--socket` and `--name` unless it is local. */
  readonly options: CommandOptions;
  /** What its operands are called; those that begin with `[` may be missing, and one that ends in `…` may be many. Default: none. */
  readonly operands?: readonly string[];
  /** Sets words apart before they are parsed; throws `bad-argument`. Default: as they are. */
  normalize?(words: readonly string[]): readonly string[];
  /** Does it. Resolves with the exit status, 0 where there is none. */
  run(args: Arguments): Promise<number | undefined> | Promise<void>;
}
