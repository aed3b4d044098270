/** The help: of the program, of commands that begin with the same word, and of one command. */
import { wrapText } from '../ui/table.js';
import { type CommandDescription, type NamedOption, optionsOf } from './command.js';

const WIDTH = 100;

/** Options with longer names have what is said of them on the next line. */
const LONGEST_NAME = 34;

const FOOTER = ['', 'Manual: docs/cli.md. Exit statuses: docs/errors.md.', ''];

/** A name, and what is said of it. */
type Row = readonly [name: string, text: string];

/** Commands with their summaries, as the table has them. */
export type CommandList = Readonly<Record<string, { readonly summary: string }>>;

/** Usage, what it does, and its options under their headings. */
export function formatHelp(command: CommandDescription): string {
  return [...describeCommand(command), ...FOOTER].join('\n');
}

/** The same of the command without a name, with all others behind it. */
export function formatProgramHelp(main: CommandDescription, local: CommandList, control: CommandList): string {
  return [
    ...describeCommand(main),
    '',
    'Other commands (vproxy COMMAND --help):',
    ...formatRows(summaries(local)),
    '',
    'Commands for a vproxy that runs (vproxy COMMAND --help):',
    ...formatRows(summaries(control)),
    ...FOOTER,
  ].join('\n');
}

/** The commands that begin with the word `first`, which are those of `list`. */
export function formatGroupHelp(first: string, list: CommandList): string {
  const rows = summaries(list).map(([name, summary]): Row => [`vproxy ${name}`, summary]);
  return `${['Commands:', ...formatRows(rows), '', `vproxy ${first} COMMAND --help shows the options of one.`].join('\n')}\n`;
}

const summaries = (list: CommandList): Row[] => Object.entries(list).map(([name, { summary }]) => [name, summary]);

function describeCommand(command: CommandDescription): string[] {
  const options = optionsOf(command).filter(({ isHidden }) => isHidden !== true);
  const groups = new Map<string, NamedOption[]>();
  for (const option of options) {
    const { group = 'Options:' } = option;
    groups.set(group, [...(groups.get(group) ?? []), option]);
  }
  const sections = [...groups].flatMap(([group, members]) => ['', group, ...formatRows(members.map(describeOption))]);
  return [`Usage: vproxy ${command.usage}`, '', ...wrapText(command.about, WIDTH), ...sections];
}

function describeOption({ name, short, value, describe, isRepeatable }: NamedOption): Row {
  const letter = short === undefined ? '    ' : `-${short}, `;
  return [
    `${letter}--${name}${value === undefined ? '' : ` ${value}`}`,
    `${describe}${isRepeatable === true && value !== undefined ? '; repeatable' : ''}`,
  ];
}

function formatRows(rows: readonly Row[]): string[] {
  const width = Math.max(...rows.map(([name]) => (name.length > LONGEST_NAME ? 0 : name.length))) + 4;
  return rows.flatMap(([name, text]) => {
    const lines = wrapText(text, WIDTH - width).map((line) => `${' '.repeat(width)}${line}`);
    const [first = '', ...others] = lines;
    if (name.length > width - 4) return [`  ${name}`, ...lines];
    return [`  ${name}`.padEnd(width) + first.slice(width), ...others];
  });
}
