/** The description of a command, shared by the readers of the command line, the help, the manual and the completion. */
import type { Option } from '../../lib/settings/setting.js';
import type { Arguments } from './arguments.js';

/** A command without its implementation. Its name and its line in the list of commands are in the table. */
export interface CommandDescription {
  /** Its usage without `vproxy`, such as `ping [-c COUNT]`. */
  readonly usage: string;
  /** Sentences for the help. */
  readonly about: string;
  /** At least one, for the end of its help. */
  readonly examples: readonly Example[];
  /** Whether it needs no running vproxy. Default false. */
  readonly isLocal?: boolean;
  /** Its own options; `--help` is added, and `--socket` and `--name` unless it is local. */
  readonly options: CommandOptions;
  /** The environment variables in place of its options, each with its meaning. Default: none. */
  readonly variables?: readonly (readonly [name: string, about: string])[];
  /** Whether a command line without words means this command, in this environment. Default: it never does. */
  readonly isImplied?: (environment: NodeJS.ProcessEnv) => boolean;
  /** Placeholders of its operands; `[…]` is optional, and one that ends in `…` is repeatable. Default: none. */
  readonly operands?: readonly string[];
  /** Commands to suggest for an unexpected operand, which replaces `WORD`, `LABEL`, `PATH` or `ADDRESS` if it could be one. Default: none. */
  readonly meant?: readonly string[];
  /** What is meant by options that other programs have, by their spelling, as the end of a message. Default: none. */
  readonly foreign?: Readonly<Record<string, string>>;
  /** Whether the first operand ends the options, as a command of the peer with its own options follows. Default false. */
  readonly endsAtOperand?: boolean;
}

/** A shell command line of at most 76 columns, and its purpose, for a comment above it. */
export type Example = readonly [line: string, about: string];

/** A command, as a file in cli/commands/ exports it. */
export interface Command extends CommandDescription {
  /** Runs the command; resolves with the exit status (0 if omitted). `runOther` runs another command line. */
  run(args: Arguments, runOther: RunCommand): Promise<number | undefined> | Promise<void>;
}

/** Runs the command line after `vproxy`; resolves with the exit status. */
export type RunCommand = (words: readonly string[]) => Promise<number>;

/** The options of a command by their long names. */
export type CommandOptions = Readonly<Record<string, CommandOption>>;

/** An option of a setting, or of a command. A value in `[=…]` is optional, and must follow `=`. */
export interface CommandOption extends Pick<Option, 'short' | 'value' | 'isRepeatable' | 'forms'> {
  readonly describe: string;
  /** The expected value, for the error that it is missing. Default: the placeholder `value`. */
  readonly expected?: string;
  /** Completions that the placeholder does not imply: names of running processes. */
  readonly offers?: 'process';
  /** Its heading in the help. Default: `Options:`. */
  readonly group?: string;
  /** Whether it is accepted but not listed in the help. Default false. */
  readonly isHidden?: boolean;
}

/** An option with values derived from its description. */
export interface NamedOption extends CommandOption {
  readonly name: string;
  /** `-c` and `--channel`, in this order. */
  readonly spellings: readonly string[];
  /** The placeholder of its value, without brackets, and whether it is optional; null for a flag. */
  readonly takes: { readonly called: string; readonly isOptional: boolean } | null;
}

/** All options of a command: its own, then the common ones. */
export function optionsOf(command: Pick<CommandDescription, 'options' | 'isLocal'>): NamedOption[] {
  return Object.entries<CommandOption>({ ...command.options, ...commonOptions(command) }).map(([name, option]) => ({
    ...option,
    name,
    spellings: [...(option.short === undefined ? [] : [`-${option.short}`]), `--${name}`],
    takes: option.value === undefined ? null : takenValue(option.value),
  }));
}

function takenValue(value: string): NamedOption['takes'] {
  const isOptional = value.startsWith('[=');
  return { called: isOptional ? value.slice(2, -1) : value, isOptional };
}

export const commonOptions = ({ isLocal = false }: Pick<CommandDescription, 'isLocal'>): CommandOptions =>
  isLocal ? HELP_OPTION : { ...PROCESS_OPTIONS, ...HELP_OPTION };

const HELP_OPTION = {
  help: { short: 'h', describe: 'Show this help' },
} as const satisfies CommandOptions;

const PROCESS_OPTIONS = {
  socket: {
    value: 'PATH',
    describe: 'Control socket of the process [default: $VPROXY_SOCKET, else the only one]',
  },
  name: { value: 'NAME', describe: 'Name or PID of the process', offers: 'process' },
} as const satisfies CommandOptions;

/** For a command that prints facts. */
export const JSON_OPTION = {
  json: { describe: 'Print the answer as JSON' },
} as const satisfies CommandOptions;

/** For a command about one channel. */
export const CHANNEL_OPTION = {
  channel: { value: 'LABEL', describe: 'The channel [default: the only one]' },
} as const satisfies CommandOptions;

/** For a command that lists things of channels. */
export const CHANNEL_FILTER = {
  channel: { value: 'LABEL', describe: 'Only those of this channel' },
} as const satisfies CommandOptions;
