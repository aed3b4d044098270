/** The reader of the command line of nearly every command: yargs. */

import yargs, { type Options } from 'yargs';
import { escapeText } from '../../lib/util/escape.js';
import { badArgument } from './arguments.js';
import type { WordReader } from './read-words.js';

/** Words are taken literally: nothing is converted to a number, negated, or split at a dot. */
const AS_WRITTEN = {
  'boolean-negation': false,
  'camel-case-expansion': false,
  'dot-notation': false,
  'parse-numbers': false,
  'parse-positional-numbers': false,
} as const;

/** Reads with yargs. Help, version and suggestions come from `run-command.ts` and `read-words.ts`, which all commands share. */
export const yargsReader: WordReader = (words, options) => {
  const read = yargs([...words])
    .parserConfiguration(AS_WRITTEN)
    .locale('en')
    .exitProcess(false)
    .help(false)
    .version(false)
    .options(
      Object.fromEntries(
        options.map(({ name, takes }): [string, Options] => [
          name,
          takes === null ? { type: 'count' } : { type: 'string', requiresArg: true },
        ]),
      ),
    )
    .strict()
    .fail((message: string | null, error: Error | undefined) => {
      throw error ?? badArgument(escapeText((message ?? 'no reason').replace(/\s+/g, ' ')));
    })
    .parseSync() as Readonly<Record<string, string | string[] | number | undefined>>;
  const values = options.flatMap(({ name }): [string, string[]][] => {
    const value = read[name];
    if (value === undefined || value === 0) return [];
    return [[name, typeof value === 'number' ? Array<string>(value).fill('') : [value].flat()]];
  });
  return { values: new Map(values), operands: [read['_'] ?? []].flat().map(String) };
};
