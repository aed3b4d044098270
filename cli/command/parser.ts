/** The command line as yargs reads it: the command that runs a proxy, and the help. */

import type { Options } from 'yargs';
import yargs from 'yargs';
import { VproxyError } from '../../lib/errors.js';
import { closestWord } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import { runCommand } from '../commands/run.js';
import { describeVersion } from '../package-info.js';
import { RUN_OPTIONS } from '../run/options.js';
import { formatCommandList } from './help.js';
import { CONTROL_COMMANDS, LOCAL_COMMANDS } from './table.js';

/** How yargs reads words: as they are written. */
export const PARSER_CONFIGURATION = {
  'boolean-negation': false,
  'camel-case-expansion': false,
  'dot-notation': false,
  'parse-numbers': false,
  'parse-positional-numbers': false,
} as const;

/** Runs the command that `args` name to its end. Rejects with `bad-argument`, or with what it fails with. */
export async function runParser(args: readonly string[]): Promise<void> {
  await parser(normalizeArguments(args)).parseAsync();
}

function parser(args: readonly string[]) {
  return yargs([...args])
    .scriptName('vproxy')
    .locale('en')
    .exitProcess(false)
    .parserConfiguration(PARSER_CONFIGURATION)
    .command(runCommand)
    .strict()
    .help()
    .alias('help', 'h')
    .version(describeVersion())
    .wrap(Math.min(process.stdout.columns || 100, 120))
    .epilogue(`${formatCommandList()}\n\nManual: docs/cli.md. Exit statuses: docs/errors.md.`)
    .fail((message: string | null, error: Error | undefined) => {
      throw error instanceof VproxyError || message === null
        ? (error ?? new VproxyError('internal', 'a command failed without a reason'))
        : usageError(message, args);
    });
}

// What yargs finds wrong with a command line, as one line that names the argument and what would be right.

/** The error for a message of yargs about the words `args`. */
export function usageError(message: string, args: readonly string[]): VproxyError {
  return new VproxyError('bad-argument', rephrase(message, args));
}

function rephrase(message: string, args: readonly string[]): string {
  const unknown = /^Unknown arguments?: ([^,]*)/s.exec(message)?.[1];
  if (unknown !== undefined) return describeUnknown(unknown, args);
  const valueless = /^Not enough arguments following: (.*)$/s.exec(message)?.[1];
  if (valueless !== undefined)
    return `${formatOption(escapeText(valueless, 64))}: its value is missing; ${describeValue(valueless)}`;
  return escapeText(message.replace(/\s+/g, ' '));
}

/** What the value of an option should be. */
function describeValue(name: string): string {
  const options: [string, Options][] = Object.entries(RUN_OPTIONS);
  const described = options.find(([long, { alias }]) => long === name || alias === name)?.[1].describe;
  return described === undefined ? 'see --help' : `expected ${described.replace(/ \[default.*\]$/, '')}`;
}

/** yargs leaves out the hyphens, so the word is looked up. */
function describeUnknown(name: string, args: readonly string[]): string {
  const shown = escapeText(name, 64);
  const isOption = args.some((word) => word.startsWith('-') && word.replace(/^-+/, '').split('=')[0] === name);
  if (!isOption && args.includes(name)) {
    const first = Object.keys({ ...LOCAL_COMMANDS, ...CONTROL_COMMANDS }).map((command) => command.replace(/ .*/, ''));
    if (first.includes(name)) return `"${shown}": a command stands before its options; see vproxy ${shown} --help`;
    const command = closestWord(name, first);
    return command === undefined
      ? `"${shown}": every argument belongs to an option; see --help`
      : `"${shown}": no such command; did you mean ${command}?`;
  }
  const close = closestWord(name, [...Object.keys(RUN_OPTIONS), 'help', 'version']);
  return `${formatOption(shown)}: no such option; ${close === undefined ? 'see --help' : `did you mean --${close}?`}`;
}

// The words of a command line before yargs sees them: what it would take in silence, otherwise, or not at all.

/** The value of an option whose value may be left out, where it is: no word of a command line has a NUL. */
export const NO_VALUE = '\0';

/**
 * The same words with a value that is attached to a short option (`-ossh:22`) set apart. Where a value may be left out, it
 * stands behind `=` only: the next word is not taken for it. Throws `bad-argument` for a
 * value behind an option that has none (`--insecure=yes`).
 */
export function normalizeArguments(args: readonly string[]): string[] {
  const end = args.includes('--') ? args.indexOf('--') : args.length;
  const words = args.slice(0, end).flatMap((word) => {
    const flag = /^(--?[^=]+)=/s.exec(word)?.[1];
    if (flag !== undefined && FLAGS.has(flag)) {
      throw new VproxyError('bad-argument', `${escapeText(word)}: ${flag} takes no value`);
    }
    if (WITH_OPTIONAL_VALUE.has(word)) return [`${word}=${NO_VALUE}`];
    const option = word.slice(0, 2);
    return SHORT_WITH_VALUE.has(option) && word.length > 2 && word[2] !== '=' ? [option, word.slice(2)] : [word];
  });
  return [...words, ...args.slice(end)];
}

/** How an option is written: `-c`, `--channel`. */
export function formatOption(name: string): string {
  return `${name.length === 1 ? '-' : '--'}${name}`;
}

interface Shape {
  readonly type: 'string' | 'boolean' | 'count';
  readonly alias?: string;
  readonly requiresArg?: boolean;
}

const SHAPES: readonly (readonly [string, Shape])[] = Object.entries(RUN_OPTIONS);

const spellings = ([name, { alias }]: readonly [string, Shape]): string[] =>
  (alias === undefined ? [name] : [name, alias]).map(formatOption);

const FLAGS = new Set([
  '--help',
  '-h',
  '--version',
  ...SHAPES.filter(([, o]) => o.type !== 'string').flatMap(spellings),
]);

const WITH_OPTIONAL_VALUE = new Set(
  SHAPES.filter(([, { type, requiresArg = false }]) => type === 'string' && !requiresArg).flatMap(spellings),
);

const SHORT_WITH_VALUE = new Set(
  SHAPES.filter(([, { type }]) => type === 'string')
    .flatMap(spellings)
    .filter((spelling) => !spelling.startsWith('--')),
);
