/** What all commands that list things have in common: the forms of the list, and repeating it when it changes. */
import { setTimeout as delay } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { suggestOrList } from '../../lib/util/closest-word.js';
import { escapeText, formatJson } from '../../lib/util/escape.js';
import { NO_VALUE } from '../../lib/util/option-value.js';
import { obeysEscapes, type Paint, paintFor } from '../ui/color.js';
import { showLive } from '../ui/live.js';
import { output, outputWidth, print } from '../ui/print.js';
import { textWidth, truncateText } from '../ui/table.js';
import { type Arguments, badArgument } from './arguments.js';
import { type Command, type CommandDescription, type CommandOptions, JSON_OPTION } from './command.js';

/** A command that lists things. It has `LIST_OPTIONS` besides its own options. */
interface ListCommand<T> extends Omit<CommandDescription, 'options'> {
  readonly options?: CommandOptions;
  /** Checks the arguments, and finds the process. Resolves with what reads the list. */
  readonly open: (args: Arguments) => Promise<() => Promise<T>>;
  /** The things by the names that other commands take. */
  readonly names: (list: T) => readonly string[];
  /** Human-readable lines. */
  readonly lines: (list: T, view: ListView, args: Arguments) => readonly string[];
}

export interface ListView {
  /** Whether it has additional columns. */
  readonly isWide: boolean;
  /** In columns; null: unlimited. */
  readonly width: number | null;
  readonly paint: Paint;
}

const FORMATS = ['json', 'name', 'wide'] as const;

const LIST_OPTIONS = {
  ...JSON_OPTION,
  output: {
    short: 'o',
    value: FORMATS.join('|'),
    describe: 'Print it as JSON, only the names, one per line, or with more columns',
  },
  watch: {
    short: 'w',
    value: '[=SECONDS]',
    describe: 'Show it until interrupted, and again whenever it changes; SECONDS is how often to look [default: 1]',
  },
} as const satisfies CommandOptions;

export function listCommand<T>({ open, names, lines, options, ...description }: ListCommand<T>): Command {
  return {
    ...description,
    options: { ...options, ...LIST_OPTIONS },
    foreign: {
      '--format': 'use -o json, -o name or -o wide',
      '-q': 'use -o name',
    },
    async run(args) {
      const format = readFormat(args);
      const intervalMs = readInterval(args);
      const read = await open(args);
      const paint = paintFor(output);
      const describe = (list: T, width: number | null): readonly string[] =>
        format === 'name'
          ? [...new Set(names(list))].map((name) => escapeText(name))
          : lines(list, { isWide: format === 'wide', width, paint }, args);
      const text = (list: T): string => {
        if (format === 'json') return `${formatJson(list, intervalMs === null ? 2 : undefined)}\n`;
        // Its additional columns rarely fit: let the terminal wrap them.
        return joinLines(describe(list, format === 'wide' ? null : outputWidth()));
      };
      if (intervalMs === null) print(text(await read()));
      else if (format !== 'json' && obeysEscapes(output)) await showList(read, describe, intervalMs);
      else await printChanges(read, text, format === 'json', intervalMs);
    },
  };
}

const joinLines = (lines: readonly string[]): string => lines.map((line) => `${line}\n`).join('');

function readFormat(args: Arguments): (typeof FORMATS)[number] | null {
  const text = args.text('output');
  if (text === undefined) return args.has('json') ? 'json' : null;
  if (args.has('json')) throw badArgument('--json: not allowed with --output');
  const format = FORMATS.find((one) => one === text);
  if (format !== undefined) return format;
  const shown = escapeText(text, 128);
  const hint = text.includes(':') ? `did you mean vproxy forward add -o ${shown}?` : suggestOrList(text, FORMATS);
  throw badArgument(`--output: "${shown}" is not a format of lists; ${hint}`);
}

/** The interval for looking, in milliseconds; null without `--watch`. */
function readInterval(args: Arguments): number | null {
  const text = args.text('watch');
  if (text === undefined) return null;
  return (text === NO_VALUE ? 1 : (args.seconds('watch', 0.1, 3600) ?? 1)) * 1000;
}

// Repeated lists. They are read at intervals: not every change has an event, and a busy process has more events than changes.

/** Fields that also change while nothing happens, or as fast as traffic flows: not a reason to print a list again. */
const PASSING: ReadonlySet<string> = new Set([
  ...['ageMs', 'uptimeMs', 'nextTryMs', 'roundTripMs', 'clockOffsetMs', 'memory', 'memoryBytes', 'eventLoopDelay'],
  ...['sentFrames', 'receivedFrames', 'sendRate', 'receiveRate'],
]);

/** Prints a list, and again when it has changed, until the process is interrupted. */
async function printChanges<T>(
  read: () => Promise<T>,
  text: (list: T) => string,
  isJson: boolean,
  intervalMs: number,
): Promise<never> {
  let before: string | null = null;
  for (;;) {
    const list = await read();
    const state = JSON.stringify(list, (key, value: unknown) =>
      PASSING.has(key) ? undefined : key === 'silentMs' ? value === null : value,
    );
    if (state !== before) print(`${before === null || isJson ? '' : '\n'}${text(list)}`);
    before = state;
    // A slow reader gets the latest list later, instead of all that it missed.
    if (process.stdout.writableNeedDrain) await new Promise((resolve) => process.stdout.once('drain', resolve));
    await delay(intervalMs);
  }
}

/** Shows a list on the whole terminal. Fails before the screen is switched if it cannot be read, so that the error stays visible. */
async function showList<T>(
  read: () => Promise<T>,
  describe: (list: T, width: number) => readonly string[],
  intervalMs: number,
): Promise<void> {
  let first: T | null = await read();
  await showLive<T>({
    intervalMs,
    async look() {
      const list = first ?? (await read());
      first = null;
      return list;
    },
    render(list, wanted, { width, height }) {
      const lines = describe(list, width);
      const scroll = Math.min(wanted, Math.max(0, lines.length - height));
      return { lines: lines.slice(scroll, scroll + height).map((line) => fitLine(line, width)), scroll };
    },
  });
}

/** Truncates a line, which loses its colours then. */
function fitLine(line: string, width: number): string {
  const plain = stripVTControlCharacters(line);
  return textWidth(plain) <= width ? line : truncateText(plain, width);
}
