/** What yargs finds wrong with a command line, as one line that names the argument and what would be right. */
import type { Options } from 'yargs';
import { VproxyError } from '../lib/errors.js';
import { closestWord } from '../lib/util/closest-word.js';
import { escapeText } from '../lib/util/escape.js';
import { CONTROL_COMMANDS, LOCAL_COMMANDS } from './control/command-table.js';
import { RUN_OPTIONS } from './options.js';
import { formatOption } from './raw-arguments.js';

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
