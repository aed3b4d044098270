/** What a command is: the one form in which the command line is described, for its readers, the help, the manual and the completion. */
import type { Option } from '../../lib/settings/setting.js';
import type { Arguments } from './arguments.js';

/** A command as its words are read. Its name and its line in the list of commands are in the table. */
export interface CommandDescription {
  /** What is behind `vproxy` in its usage, such as `ping [-c COUNT]`. */
  readonly usage: string;
  /** What it does, in sentences for the help. */
  readonly about: string;
  /** At least one, for the end of its help. */
  readonly examples: readonly Example[];
  /** Whether it needs no running vproxy. Default false. */
  readonly isLocal?: boolean;
  /** Its own options; `--help` is added, and `--socket` and `--name` unless it is local. */
  readonly options: CommandOptions;
  /** What its operands are called; those that begin with `[` may be missing, and one that ends in `…` may be many. Default: none. */
  readonly operands?: readonly string[];
  /** What may have been meant by a label where there is no operand: commands, in which it is in the place of `LABEL`. Default: none. */
  readonly meant?: readonly string[];
  /** Whether everything from the first operand on is an operand, as a command of the peer with its own options begins there. Default false. */
  readonly endsAtOperand?: boolean;
}

/** A command line that a shell takes, of at most 76 columns, and what it is for, as a comment above it. */
export type Example = readonly [line: string, about: string];

/** One command, as a file in cli/commands/ has it. */
export interface Command extends CommandDescription {
  /** Runs the command; resolves with the exit status (0 if omitted). `runOther` runs the command that its words name. */
  run(args: Arguments, runOther: RunCommand): Promise<number | undefined> | Promise<void>;
}

/** Runs the command that the words behind `vproxy` name; resolves with the exit status. */
export type RunCommand = (words: readonly string[]) => Promise<number>;

/** The options of a command by their long names. */
export type CommandOptions = Readonly<Record<string, CommandOption>>;

/** One option: of a setting, or of a command alone. A value in `[=…]` may be left out, and is behind `=` only. */
export interface CommandOption extends Pick<Option, 'short' | 'value' | 'isRepeatable' | 'forms'> {
  readonly describe: string;
  /** What its value has to be, where its value is missing. Default: as `value` calls it. */
  readonly expected?: string;
  /** What a shell offers for its value, where what it is called does not say so: names of processes that run. */
  readonly offers?: 'process';
  /** The heading that the help lists it under. Default: `Options:`. */
  readonly group?: string;
  /** Whether it is taken, and not listed in the help. Default false. */
  readonly isHidden?: boolean;
}

/** An option with what follows from its description. */
export interface NamedOption extends CommandOption {
  readonly name: string;
  /** `-c` and `--channel`, in this order. */
  readonly spellings: readonly string[];
  /** What its value is called, without brackets, and whether it may be left out; null for a flag. */
  readonly takes: { readonly called: string; readonly isOptional: boolean } | null;
}

/** All options of a command: its own, then those that every such command has. */
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

/** What a command takes besides its own options. */
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
  name: { value: 'NAME', describe: 'Name, or number, of the process', offers: 'process' },
} as const satisfies CommandOptions;

/** For a command that prints facts. */
export const JSON_OPTION = {
  json: { describe: 'Print what the process says, as JSON' },
} as const satisfies CommandOptions;

/** For a command that is about a channel. */
export const CHANNEL_OPTION = {
  channel: { value: 'LABEL', describe: 'The channel [default: the only one]' },
} as const satisfies CommandOptions;

/** For a command that lists what belongs to channels. */
export const CHANNEL_FILTER = {
  channel: { value: 'LABEL', describe: 'Only what belongs to this channel' },
} as const satisfies CommandOptions;
