/** What can be completed: the commands and their options as the help has them, in one form. */
import { type Command, type CommandOption, commonOptions } from '../command/arguments.js';
import { CONTROL_COMMANDS, LOCAL_COMMANDS } from '../command/table.js';
import { RUN_OPTIONS, type RunOption } from '../run/options.js';
import { type ValueSort, valueSort } from './value-sort.js';

/** One option. */
export interface CompletedOption {
  /** `-c` and `--channel`, in this order. */
  readonly spellings: readonly string[];
  readonly describe: string;
  readonly isRepeatable: boolean;
  /** What its value is called, and what can be one; null for a flag. */
  readonly value: (ValueSort & { readonly called: string; readonly isOptional: boolean }) | null;
}

/** One command, or what stands without one. */
export interface CompletedCommand {
  /** Of one word or two; empty for the command that runs a proxy. */
  readonly name: string;
  readonly summary: string;
  readonly options: readonly CompletedOption[];
  /** What its operands are called, without brackets and dots, and what can be one. */
  readonly operands: readonly (ValueSort & { readonly called: string })[];
  /** Whether there may be more of them, which are as the last one. */
  readonly hasMany: boolean;
  /** Whether its options end at the first operand, as a command of the other side with its own begins there. */
  readonly endsAtOperand: boolean;
}

/** All of them: first the one that runs a proxy, then the others in the order of the help. */
export async function completedCommands(): Promise<CompletedCommand[]> {
  const entries = Object.entries({ ...LOCAL_COMMANDS, ...CONTROL_COMMANDS });
  const others = entries.map(async ([name, entry]) => completed(name, entry.summary, await entry.load()));
  return [runCommand(), ...(await Promise.all(others))];
}

function completed(name: string, summary: string, command: Command): CompletedCommand {
  const { operands = [], options } = command;
  return {
    name,
    summary,
    options: Object.entries<CommandOption>({ ...options, ...commonOptions(command) }).map(completedOption),
    operands: operands.map((operand) => ({ ...valueSort(operand), called: operand.replace(/[[\]…]/g, '') })),
    hasMany: operands.some((operand) => /…\]?$/.test(operand)),
    endsAtOperand: operands.some((operand) => operand.startsWith('[ARG')),
  };
}

function runCommand(): CompletedCommand {
  const options = Object.entries<RunOption>(RUN_OPTIONS).map(([name, { alias, describe = '', ...option }]) =>
    completedOption([
      name,
      {
        ...option,
        describe,
        isRepeatable: option.isRepeatable ?? option.type === 'count',
        ...(typeof alias === 'string' ? { short: alias } : {}),
      },
    ]),
  );
  const information = [
    completedOption(['help', { short: 'h', describe: 'Show this help' }]),
    completedOption(['version', { describe: 'Show versions' }]),
  ];
  return {
    name: '',
    summary: '',
    options: [...options, ...information],
    operands: [],
    hasMany: false,
    endsAtOperand: false,
  };
}

function completedOption([name, option]: [string, CommandOption]): CompletedOption {
  const { short, value, describe, isRepeatable = false } = option;
  return {
    spellings: [...(short === undefined ? [] : [`-${short}`]), `--${name}`],
    describe: describe.replace(/; repeatable$/, ''),
    isRepeatable,
    value: value === undefined ? null : completedValue(value),
  };
}

function completedValue(value: string): CompletedOption['value'] {
  const isOptional = value.startsWith('[=');
  const called = isOptional ? value.slice(2, -1) : value;
  return { ...valueSort(called), called, isOptional };
}

/** The words that begin commands of two, each with its second words. */
export function commandGroups(commands: readonly CompletedCommand[]): Map<string, CompletedCommand[]> {
  const groups = new Map<string, CompletedCommand[]>();
  for (const command of commands) {
    const [first = '', second] = command.name.split(' ');
    if (second !== undefined) groups.set(first, [...(groups.get(first) ?? []), command]);
  }
  return groups;
}

/** What may stand as the first word, with a summary. */
export function firstWords(
  commands: readonly CompletedCommand[],
): { readonly word: string; readonly summary: string }[] {
  const words = new Map<string, string>();
  for (const { name, summary } of commands) {
    const [first = '', second] = name.split(' ');
    if (first === '') continue;
    const seconds = commandGroups(commands)
      .get(first)
      ?.map((command) => command.name.slice(first.length + 1));
    words.set(first, second === undefined ? summary : `Commands: ${seconds?.join(', ') ?? ''}`);
  }
  return [...words].map(([word, summary]) => ({ word, summary }));
}
