/**
 * Reads the words behind a command. What they mean, and what is wrong with them, is decided here, before a reader has
 * them: yargs and `util.parseArgs` would each take other things in silence. What a reader gets, both read alike.
 */
import { parseArgs } from 'node:util';
import { VproxyError } from '../../lib/errors.js';
import { closestWord } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import { isLabel } from '../../lib/util/labels.js';
import { NO_VALUE } from '../../lib/util/option-value.js';
import { Arguments } from './arguments.js';
import { type CommandDescription, type NamedOption, optionsOf } from './command.js';

/** Words as a reader gets them: first options, each with its long name and its value behind `=`, then `--` and the operands. */
export type PlainWords = readonly string[];

/** The values of each option that is there, and the operands; a flag has an empty value each time. */
export interface ReadWords {
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];
}

/** One that reads plain words. */
export type WordReader = (words: PlainWords, options: readonly NamedOption[]) => ReadWords;

/** The reader that is loaded at once, for commands that scripts call often. */
export const quickReader: WordReader = (words, options) => {
  const { tokens } = parseArgs({
    args: [...words],
    tokens: true,
    allowPositionals: true,
    options: Object.fromEntries(
      options.map(({ name, takes }) => [name, { type: takes === null ? 'boolean' : 'string', multiple: true }]),
    ),
  });
  const values = new Map<string, string[]>();
  const operands: string[] = [];
  for (const token of tokens) {
    if (token.kind === 'positional') operands.push(token.value);
    if (token.kind === 'option') values.set(token.name, [...(values.get(token.name) ?? []), token.value ?? '']);
  }
  return { values, operands };
};

/**
 * The arguments of a command, read by `reader`. Throws `bad-argument`, naming the word and what would be right.
 * `refuseOperand` makes the error for a word that can be nothing.
 */
export function readArguments(
  command: CommandDescription,
  words: readonly string[],
  reader: WordReader = quickReader,
  refuseOperand: (word: string) => VproxyError = (word) =>
    bad(`${quote(word)}: there is nothing that it could be; ${whatWasMeant(command, word)}`),
): Arguments {
  const options = optionsOf(command);
  const { plain, hasSeparator } = plainWords(words, options, command.endsAtOperand === true);
  const { values, operands } = reader(plain, options);
  const extra = extraOperand(command, operands);
  if (extra !== undefined) throw refuseOperand(extra);
  if (!values.has('help')) requireOperands(command, operands);
  return new Arguments(values, operands, hasSeparator);
}

/** The words for a reader. Throws `bad-argument` where an option or its value is wrong. */
function plainWords(
  words: readonly string[],
  options: readonly NamedOption[],
  endsAtOperand: boolean,
): { readonly plain: PlainWords; readonly hasSeparator: boolean } {
  const plain: string[] = [];
  const operands: string[] = [];
  const counts = new Map<NamedOption, number>();
  const waiting = [...words];
  let hasSeparator = false;
  for (let word = waiting.shift(); word !== undefined; word = waiting.shift()) {
    if (word === '--') {
      hasSeparator = true;
      operands.push(...waiting.splice(0));
    } else if (!looksLikeOption(word)) {
      operands.push(word, ...(endsAtOperand ? waiting.splice(0) : []));
    } else {
      for (const [spelling, inline] of spellingsIn(word, options)) {
        const option = findOption(spelling, options);
        const value = valueOf(option, spelling, inline, waiting);
        const count = (counts.get(option) ?? 0) + 1;
        counts.set(option, count);
        if (count > 1 && option.takes !== null && option.isRepeatable !== true) {
          throw bad(`${spelling}: one is expected, but it is there ${count} times`);
        }
        plain.push(value === null ? `--${option.name}` : `--${option.name}=${value}`);
      }
    }
  }
  return { plain: [...plain, '--', ...operands], hasSeparator };
}

const looksLikeOption = (word: string): boolean => word.startsWith('-') && word !== '-';

/** The options in one word, such as the two of `-vq`, each with the value that is attached to it: `--wait=3`, `-ossh:22`, `-c=1`. */
function spellingsIn(word: string, options: readonly NamedOption[]): [spelling: string, inline: string | undefined][] {
  if (word.startsWith('--')) {
    const equals = word.indexOf('=');
    return [equals === -1 ? [word, undefined] : [word.slice(0, equals), word.slice(equals + 1)]];
  }
  const found: [string, string | undefined][] = [];
  for (let at = 1; at < word.length; at++) {
    const spelling = `-${word.charAt(at)}`;
    const rest = word.slice(at + 1);
    const takesValue = findOption(spelling, options).takes !== null;
    if (rest === '' || !(takesValue || rest.startsWith('='))) {
      found.push([spelling, undefined]);
      continue;
    }
    return [...found, [spelling, rest.replace(/^=/, '')]];
  }
  return found;
}

function findOption(spelling: string, options: readonly NamedOption[]): NamedOption {
  const option = options.find(({ spellings }) => spellings.includes(spelling));
  if (option !== undefined) return option;
  const close = closestWord(
    spelling.replace(/^-+/, ''),
    options.map(({ name }) => name),
  );
  throw bad(
    `${escapeText(spelling, 64)}: no such option; ${close === undefined ? 'see --help' : `did you mean --${close}?`}`,
  );
}

/** The value of an option, which may be the first of the words that wait; null for a flag. */
function valueOf(option: NamedOption, spelling: string, inline: string | undefined, waiting: string[]): string | null {
  const { takes, value: called, expected = `${spelling} ${called}` } = option;
  if (takes === null) {
    if (inline !== undefined) throw bad(`${spelling}: it takes no value`);
    return null;
  }
  if (inline === undefined && takes.isOptional) return NO_VALUE;
  const value = inline ?? (canBeValue(waiting[0]) ? waiting.shift() : undefined);
  if (value === undefined) throw bad(`${spelling}: its value is missing; expected ${expected}`);
  if (value === '') throw bad(`${spelling}: its value is empty`);
  return value;
}

/** Another option where a value should be was hardly meant as one; a number below zero was, and is refused as that. */
const canBeValue = (word: string | undefined): boolean =>
  word !== undefined && (!looksLikeOption(word) || /^-\.?\d[\d.]*$/.test(word));

const hasMany = (operands: readonly string[]): boolean => operands.some((operand) => /…\]?$/.test(operand));

function extraOperand({ operands = [] }: CommandDescription, given: readonly string[]): string | undefined {
  return hasMany(operands) ? undefined : given[operands.length];
}

function whatWasMeant({ usage, meant = [] }: CommandDescription, word: string): string {
  if (meant.length === 0 || !isLabel(word)) return `usage: vproxy ${usage}`;
  return `did you mean ${meant.map((command) => `vproxy ${command.replace('LABEL', word)}`).join(', or ')}?`;
}

function requireOperands({ usage, operands = [] }: CommandDescription, given: readonly string[]): void {
  const missing = operands[given.length];
  if (missing === undefined || missing.startsWith('[')) return;
  throw bad(`${missing.replace('…', '')} is missing; usage: vproxy ${usage}`);
}

const quote = (value: string): string => `"${escapeText(value, 64)}"`;

const bad = (message: string): VproxyError => new VproxyError('bad-argument', message);
