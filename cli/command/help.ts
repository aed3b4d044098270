/** The help: short, of the program, of commands with the same first word, and of one command. */
import { EXIT_OK } from '../exit.js';
import { documentsFolder } from '../package-info.js';
import { outputWidth, print } from '../ui/print.js';
import { wrapPieces, wrapText } from '../ui/table.js';
import { type CommandDescription, type Example, type NamedOption, optionsOf } from './command.js';

/** Bounds of the width of lines in a terminal, and the width without one, in columns. */
const DEFAULT_WIDTH = 80;
const LEAST_WIDTH = 40;
const MOST_WIDTH = 100;

/** The width of lines for a terminal of this many columns; null: no terminal. */
export const helpWidth = (columns: number | null): number =>
  Math.min(MOST_WIDTH, Math.max(LEAST_WIDTH, columns ?? DEFAULT_WIDTH));

/** Prints a help, as wide as the terminal; returns the exit status. */
export function printHelp(format: (width: number) => string): number {
  print(format(helpWidth(outputWidth())));
  return EXIT_OK;
}

/** The share of the width for names; the text of a longer name begins on the next line. */
const NAME_PART = 0.4;

/** A name and its text; each line of it that begins with a hyphen is a bullet. */
type Row = readonly [name: string, text: string];

/** Commands with their summaries, as in the table. */
export type CommandList = Readonly<Record<string, { readonly summary: string }>>;

/** The kinds of channels with the form of their addresses, as in the table of kinds. */
export type KindList = Iterable<readonly [name: string, kind: { readonly form: string; readonly about: string }]>;

/** Usage, description, options under their headings, and examples of the command `name`. */
export function formatHelp(name: string, command: CommandDescription, width: number): string {
  const page = `vproxy-${name.replaceAll(' ', '-')}`;
  return joinLines([...describeCommand(command, width), ...describeExamples(command.examples), ...footer(page, width)]);
}

/** The same for the command without a name, with all other commands before its options. */
export function formatProgramHelp(
  main: CommandDescription,
  local: CommandList,
  control: CommandList,
  width: number,
): string {
  return joinLines([
    ...describeUsage([main.usage, 'COMMAND [options]'], width),
    ...['', ...wrapText(main.about, width)],
    ...['', 'Commands for a running vproxy (vproxy help COMMAND):'],
    ...formatRows(summaries(control), width),
    ...['', 'Other commands (vproxy help COMMAND):'],
    ...formatRows(summaries(local), width),
    ...describeOptions(main, width),
    ...['', ...wrapText('vproxy help channels lists the kinds of channels.', width)],
    ...describeExamples(main.examples),
    ...footer('vproxy', width),
  ]);
}

/** The kinds of channels with the form of their addresses. */
export function formatKindHelp(kinds: KindList, width: number): string {
  const rows = Array.from(kinds, ([name, { form, about }]): Row => [`${name}:${form}`, about]);
  return joinLines([
    'Kinds of channels, for -c [LABEL=]KIND:ADDRESS[,key=value…]:',
    ...formatRows(rows, width),
    ...['', ...wrapText('vproxy channels --help describes the command that lists the channels of a process.', width)],
    ...footer('vproxy', width),
  ]);
}

/** How to begin, and the most used commands `common`: for a command line without words. */
export function formatShortHelp(main: CommandDescription, common: CommandList, width: number): string {
  const more =
    'vproxy --help lists all options and commands, vproxy help channels the kinds of channels; vproxy help COMMAND describes one command.';
  return joinLines([
    ...describeUsage([main.usage, 'COMMAND [options]'], width),
    ...['', ...wrapText(main.about, width)],
    ...describeExamples(main.examples.slice(0, 2)),
    ...['', 'Common commands:', ...formatRows(summaries(common), width)],
    ...['', ...wrapText(`${more} ${manual('vproxy')}`, width)],
  ]);
}

/** The commands of `list`, which begin with the word `first`. */
export function formatGroupHelp(first: string, list: CommandList, width: number): string {
  const rows = summaries(list).map(([name, summary]): Row => [`vproxy ${name}`, summary]);
  return joinLines([
    'Commands:',
    ...formatRows(rows, width),
    ...['', ...wrapText(`vproxy help ${first} COMMAND describes one of them.`, width)],
  ]);
}

const joinLines = (lines: readonly string[]): string => `${lines.join('\n')}\n`;

const summaries = (list: CommandList): Row[] => Object.entries(list).map(([name, { summary }]) => [name, summary]);

/** Where to read more, of an installed program. */
function manual(page: string): string {
  const folder = documentsFolder();
  return `Manual: man ${page}${folder === null ? '' : `; documents: ${folder}`}.`;
}

const footer = (page: string, width: number): string[] => ['', ...wrapText(manual(page), width)];

const describeCommand = (command: CommandDescription, width: number): string[] => [
  ...describeUsage([command.usage], width),
  ...['', ...wrapText(command.about, width)],
  ...describeOptions(command, width),
];

/** The options under their headings. */
function describeOptions(command: CommandDescription, width: number): string[] {
  const options = optionsOf(command).filter(({ isHidden }) => isHidden !== true);
  const groups = new Map<string, NamedOption[]>();
  for (const option of options) {
    const { group = 'Options:' } = option;
    groups.set(group, [...(groups.get(group) ?? []), option]);
  }
  const sections = [...groups].flatMap(([group, members]) => [
    ...['', group],
    ...formatRows(members.map(describeOption), width),
  ]);
  const hasTimes = options.some(({ takes }) => takes?.called === 'SECONDS');
  const { variables = [] } = command;
  if (variables.length > 0) {
    sections.push(...['', 'Environment, which options override:'], ...formatRows(variables, width));
  }
  return [...sections, ...(hasTimes ? ['', ...wrapText('SECONDS may have units: 500ms, 90s, 5m, 1h30m.', width)] : [])];
}

/** The lines of usages; continuation lines are indented behind the name of the command. Brackets are not broken up. */
function describeUsage(usages: readonly string[], width: number): string[] {
  return usages.flatMap((usage, index) => {
    const head = `${index === 0 ? 'Usage:' : '      '} vproxy `;
    const [, name = ''] = /^((?:[a-z][a-z-]* )*)/.exec(usage) ?? [];
    const indent = ' '.repeat(head.length + name.length);
    const lines = wrapPieces(splitUsage(usage.slice(name.length)), width - indent.length);
    return lines.map((line, at) => (at === 0 ? `${head}${name}` : indent) + line);
  });
}

/** The words of a usage; text in brackets is one word. */
function splitUsage(usage: string): string[] {
  const pieces: string[] = [];
  let depth = 0;
  for (const word of usage.split(' ')) {
    if (depth > 0) pieces.push(`${pieces.pop() ?? ''} ${word}`);
    else pieces.push(word);
    depth += (word.match(/[[(]/g) ?? []).length - (word.match(/[\])]/g) ?? []).length;
  }
  return pieces;
}

function describeExamples(examples: readonly Example[]): string[] {
  if (examples.length === 0) return [];
  // Users copy them: no line is wrapped.
  return ['', 'Examples:', ...examples.flatMap(([line, about]) => [`  # ${about}`, `  ${line}`])];
}

function describeOption({ name, short, value, describe, isRepeatable, forms = [] }: NamedOption): Row {
  const letter = short === undefined ? '    ' : `-${short}, `;
  const text = `${describe}${isRepeatable === true && value !== undefined ? '; repeatable' : ''}`;
  return [
    `${letter}--${name}${value === undefined ? '' : `${value.startsWith('[=') ? '' : ' '}${value}`}`,
    forms.length === 0 ? text : [`${text}:`, ...forms.map((form) => `- ${form}`)].join('\n'),
  ];
}

/** Columns between a name and its text, and before a name. */
const GAP = 2;

function formatRows(rows: readonly Row[], width: number): string[] {
  const longest = Math.floor(width * NAME_PART);
  const fitting = rows.map(([name]) => name.length).filter((length) => length <= longest);
  const indent = Math.max(8, ...fitting) + 2 * GAP;
  const pad = ' '.repeat(indent);
  return rows.flatMap(([name, text]) => {
    const lines = text.split('\n').flatMap((line) => wrapHanging(line, width - indent));
    const [first = '', ...others] = lines;
    if (name.length > indent - 2 * GAP) return [`  ${name}`, ...lines.map((line) => pad + line)];
    return [`  ${name}`.padEnd(indent) + first, ...others.map((line) => pad + line)];
  });
}

/** Wraps a line; a bullet has a hanging indent. */
function wrapHanging(line: string, width: number): string[] {
  if (!line.startsWith('- ')) return wrapText(line, width);
  return wrapText(line.slice(2), width - 2).map((part, index) => `${index === 0 ? '- ' : '  '}${part}`);
}
