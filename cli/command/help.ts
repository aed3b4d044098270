/** The help of a command, for stdout. */

import { wrapText } from '../ui/table.js';
import { type Command, type CommandOption, commonOptions } from './arguments.js';
import { CONTROL_COMMANDS, type CommandEntry, LOCAL_COMMANDS, secondWords } from './table.js';

const WIDTH = 100;

/** Usage, what it does, and its options. */
export function formatHelp(command: Command): string {
  const { usage, about, options } = command;
  return [
    `Usage: vproxy ${usage}`,
    '',
    ...wrapText(about, WIDTH),
    '',
    'Options:',
    ...formatRows(
      Object.entries<CommandOption>({ ...options, ...commonOptions(command) })
        .filter(([, { isHidden }]) => isHidden !== true)
        .map(describeOption),
    ),
    '',
    'Manual: docs/cli.md. Exit statuses: docs/errors.md.',
    '',
  ].join('\n');
}

/** The commands that begin with the same word. */
export function formatGroupHelp(name: string): string {
  const rows = secondWords(name).map((second): [string, string] => {
    const full = `${name} ${second}`;
    return [`vproxy ${full}`, (CONTROL_COMMANDS[full] ?? LOCAL_COMMANDS[full])?.summary ?? ''];
  });
  return ['Commands:', ...formatRows(rows), '', `vproxy ${name} COMMAND --help shows the options of one.`, ''].join(
    '\n',
  );
}

function describeOption([name, { short, value, describe, isRepeatable }]: [string, CommandOption]): [string, string] {
  const letter = short === undefined ? '    ' : `-${short}, `;
  return [
    `${letter}--${name}${value === undefined ? '' : ` ${value}`}`,
    `${describe}${isRepeatable === true ? '; repeatable' : ''}`,
  ];
}

function formatRows(rows: readonly (readonly [string, string])[]): string[] {
  const width = Math.max(...rows.map(([left]) => left.length)) + 4;
  return rows.flatMap(([left, right]) =>
    wrapText(right, WIDTH - width).map((line, index) => `${(index === 0 ? `  ${left}` : '').padEnd(width)}${line}`),
  );
}

/** The commands that yargs does not know, for the help of the program. */
export function formatCommandList(): string {
  const rows = (commands: Readonly<Record<string, CommandEntry>>) =>
    formatRows(Object.entries(commands).map(([name, { summary }]): [string, string] => [name, summary]));
  return [
    'Other commands (vproxy COMMAND --help):',
    ...rows(LOCAL_COMMANDS),
    '',
    'Commands for a vproxy that runs (vproxy COMMAND --help):',
    ...rows(CONTROL_COMMANDS),
  ].join('\n');
}
