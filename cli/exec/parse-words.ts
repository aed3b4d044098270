/**
 * The words behind `vproxy exec`. Its options end where the command begins, and every module that is loaded costs time: so it
 * has a reader of its own.
 */
import { VproxyError } from '../../lib/errors.js';
import type { CommandOption, CommandOptions } from '../control/command.js';

/** What was given. */
export interface ExecWords {
  /** By their long names; a flag has an empty value. */
  readonly options: ReadonlyMap<string, readonly string[]>;
  /** What stands behind the options, as it is. */
  readonly operands: readonly string[];
  /** Whether `--` stands before the operands. */
  readonly hasSeparator: boolean;
}

/** Reads options up to the first word that is none, or up to `--`. Throws `bad-argument`. */
export function parseWords(words: readonly string[], known: CommandOptions): ExecWords {
  const options = new Map<string, string[]>();
  let at = 0;
  const take = (shown: string, name: string, inline: string | undefined): void => {
    const option = Object.hasOwn(known, name) ? known[name] : undefined;
    if (option === undefined) throw bad(`${quote(shown)}: no such option; see --help`);
    if (option.value === undefined && inline !== undefined) throw bad(`${shown}: it takes no value`);
    const value = option.value === undefined ? '' : (inline ?? words[at++]);
    if (value === undefined || (value === '' && option.value !== undefined)) {
      throw bad(`${shown}: its value is missing; expected ${shown} ${option.value ?? ''}`);
    }
    const given = options.get(name) ?? [];
    if (given.length > 0 && option.value !== undefined && option.isRepeatable !== true) {
      throw bad(`${shown}: one is expected, but it is there more than once`);
    }
    options.set(name, [...given, value]);
  };
  for (;;) {
    const word = words[at];
    if (word === '--') return { options, operands: words.slice(at + 1), hasSeparator: true };
    if (word === undefined || word === '-' || !word.startsWith('-')) {
      return { options, operands: words.slice(at), hasSeparator: false };
    }
    at += 1;
    if (word.startsWith('--')) {
      const equals = word.indexOf('=');
      const name = equals === -1 ? word : word.slice(0, equals);
      take(name, name.slice(2), equals === -1 ? undefined : word.slice(equals + 1));
    } else {
      for (const letter of word.slice(1)) take(`-${letter}`, longName(letter, known), undefined);
    }
  }
}

/** Empty where no option has this letter. */
function longName(letter: string, known: CommandOptions): string {
  const options: [string, CommandOption][] = Object.entries(known);
  return options.find(([, { short }]) => short === letter)?.[0] ?? '';
}

const quote = (word: string): string => JSON.stringify(word.slice(0, 64));

const bad = (message: string): VproxyError => new VproxyError('bad-argument', message);
