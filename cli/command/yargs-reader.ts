/** The reader of the command line of nearly every command: the parser of yargs, after `read-words.ts` has checked the words. */
import { Parser } from 'yargs/helpers';
import type { WordReader } from './read-words.js';

/** Words are taken literally: nothing is converted to a number, negated, or split at a dot. */
const AS_WRITTEN = {
  'boolean-negation': false,
  'camel-case-expansion': false,
  'dot-notation': false,
  'parse-numbers': false,
  'parse-positional-numbers': false,
} as const;

export const yargsReader: WordReader = (words, options) => {
  const flags = options.filter(({ takes }) => takes === null).map(({ name }) => name);
  const others = options.filter(({ name }) => !flags.includes(name));
  const { _: operands, ...read } = Parser([...words], {
    count: flags,
    narg: Object.fromEntries(others.map(({ name }) => [name, 1])),
    configuration: AS_WRITTEN,
  }) as { readonly _: string[]; readonly [name: string]: string | string[] | number };
  const values = Object.entries(read).map(([name, value]): [string, string[]] => [
    name,
    typeof value === 'number' ? Array<string>(value).fill('') : [value].flat(),
  ]);
  return { values: new Map(values.filter(([, texts]) => texts.length > 0)), operands };
};
