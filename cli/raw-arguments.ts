/** The words of a command line before yargs sees them: what it would take in silence, otherwise, or not at all. */
import { VproxyError } from '../lib/errors.js';
import { escapeText } from '../lib/util/escape.js';
import { RUN_OPTIONS } from './options.js';

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
