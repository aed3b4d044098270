/**
 * Reads the words after a command: `util.parseArgs` splits them, and each option and value is checked here. yargs then gets
 * words that have only one reading.
 */
import { isUtf8 } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { VproxyError } from '../../lib/errors.js';
import { closestWord } from '../../lib/util/closest-word.js';
import { escapeText } from '../../lib/util/escape.js';
import { isLabel } from '../../lib/util/labels.js';
import { NO_VALUE } from '../../lib/util/option-value.js';
import { Arguments, badArgument } from './arguments.js';
import { type CommandDescription, type NamedOption, optionsOf } from './command.js';

/** The values of each option that was given, and the operands; a flag has an empty value each time. */
export interface ReadWords {
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];
}

/** Reads options that are all written as `--long-name=VALUE`, then `--` and the operands. */
export type WordReader = (words: readonly string[], options: readonly NamedOption[]) => ReadWords;

interface FoundOption {
  readonly index: number;
  readonly spelling: string;
  /** Undefined for an unknown option. */
  readonly option: NamedOption | undefined;
  /** The attached value, as in `--wait=3`, `-ossh:22` and `-c=1`, or else the next word. */
  readonly value: string | undefined;
  readonly isAttached: boolean;
}

/**
 * Splits words into options and operands; the first operand for which `endsAt` holds ends the options. `separatorAt`:
 * the number of operands before a `--`, or null; `isEnded`: whether any further word would be an operand.
 */
export function splitWords(
  words: readonly string[],
  options: readonly NamedOption[],
  endsAt: (operand: string) => boolean,
) {
  const { tokens } = parseArgs({
    args: [...words],
    tokens: true,
    strict: false,
    options: Object.fromEntries(
      options.map(({ name, short, takes }) => [
        name,
        { type: takes?.isOptional === false ? 'string' : 'boolean', ...(short === undefined ? {} : { short }) },
      ]),
    ),
  });
  const found: FoundOption[] = [];
  const operands: string[] = [];
  for (const token of tokens) {
    const { index } = token;
    if (token.kind === 'option') {
      const { rawName, value, inlineValue = false } = token;
      const option = options.find(({ spellings }) => spellings.includes(rawName));
      const isShort = !rawName.startsWith('--');
      found.push({
        ...{ index, spelling: rawName, option, isAttached: inlineValue },
        value: inlineValue && isShort ? value?.replace(/^=/, '') : value,
      });
    } else if (token.kind === 'option-terminator') {
      if (words[index] === '--') {
        const all = [...operands, ...words.slice(index + 1)];
        return { found, operands: all, separatorAt: operands.length, isEnded: true };
      }
      // A hyphen among letters, as in `-q-x`, does not end the options.
      const spelling = words[index] ?? '--';
      found.push({ index, spelling, option: undefined, value: undefined, isAttached: false });
    } else if (endsAt(token.value)) {
      return { found, operands: [...operands, ...words.slice(index)], separatorAt: null, isEnded: true };
    } else operands.push(token.value);
  }
  return { found, operands, separatorAt: null, isEnded: false };
}

/**
 * Reads the arguments of a command; `reader` reads them again. Throws `bad-argument`, naming the word and what is expected.
 * `refuseOperand` makes the error for an unexpected word.
 */
export function readArguments(
  command: CommandDescription,
  words: readonly string[],
  reader?: WordReader,
  refuseOperand: (word: string) => VproxyError = (word) =>
    badArgument(`unexpected argument ${quote(word)}; ${whatWasMeant(command, word)}`),
): Arguments {
  const options = optionsOf(command);
  const split = splitWords(words, options, () => command.endsAtOperand === true);
  const checked = { values: checkValues(split.found, options, command.foreign), operands: split.operands };
  const { values, operands } = reader === undefined ? checked : reader(plainWords(checked, options), options);
  const extra = extraOperand(command, operands);
  if (extra !== undefined) throw refuseValue(extra, words, split.found) ?? refuseOperand(extra);
  if (!values.has('help')) requireOperands(command, operands);
  return new Arguments(values, operands, split.separatorAt);
}

function plainWords({ values, operands }: ReadWords, options: readonly NamedOption[]): string[] {
  const plain = options.flatMap(({ name, takes }) =>
    (values.get(name) ?? []).map((value) => (takes === null ? `--${name}` : `--${name}=${value}`)),
  );
  return [...plain, '--', ...operands];
}

/** The values by option name. Throws `bad-argument` for an invalid option or value. */
function checkValues(
  found: readonly FoundOption[],
  options: readonly NamedOption[],
  foreign: CommandDescription['foreign'] = {},
): ReadWords['values'] {
  const values = new Map<string, string[]>();
  for (const [index, one] of found.entries()) {
    const { option, spelling } = one;
    if (option === undefined) throw noSuchOption(one, options, foreign, found[index - 1]);
    const known = [...(values.get(option.name) ?? []), valueOf(one, option)];
    values.set(option.name, known);
    if (known.length > 1 && option.takes !== null && option.isRepeatable !== true) {
      throw badArgument(`${spelling}: given ${known.length} times (max 1)`);
    }
  }
  return values;
}

/** `before` is the previous option: `parseArgs` returns the equals sign of `-v=1` as an option. */
function noSuchOption(
  { index, spelling }: FoundOption,
  options: readonly NamedOption[],
  foreign: Readonly<Record<string, string>>,
  before: FoundOption | undefined,
): VproxyError {
  if (spelling === '-=' && before?.index === index) {
    const { option } = before;
    const hint = option === undefined || option.takes === null ? '' : `; use --${option.name}=${option.takes.called}`;
    return badArgument(`${before.spelling}: takes no value${hint}`);
  }
  const close = closestWord(
    spelling.replace(/^-+/, ''),
    options.map(({ name }) => name),
  );
  const known = Object.hasOwn(foreign, spelling) ? foreign[spelling] : undefined;
  const hint = known ?? (close === undefined ? 'see --help' : `did you mean --${close}?`);
  return badArgument(`${escapeText(spelling, 64)}: unknown option; ${hint}`);
}

function valueOf({ spelling, value, isAttached }: FoundOption, option: NamedOption): string {
  const { takes, value: called, expected = `${spelling} ${called}` } = option;
  if (takes === null) {
    if (value !== undefined) throw badArgument(`${spelling}: takes no value`);
    return '';
  }
  if (value === undefined && takes.isOptional) return NO_VALUE;
  if (value === undefined || !(isAttached || canBeValue(value))) {
    throw badArgument(`${spelling}: missing value; expected ${expected}`);
  }
  if (value === '') throw badArgument(`${spelling}: empty value`);
  return value;
}

/** Another option is hardly meant as a value; a negative number is, and is rejected later. */
const canBeValue = (word: string): boolean => !word.startsWith('-') || word === '-' || /^-\.?\d[\d.]*$/.test(word);

/** Whether one of them is repeatable. */
export const hasMany = (operands: readonly string[]): boolean => operands.some((operand) => /\u2026\]?$/.test(operand));

function extraOperand({ operands = [] }: CommandDescription, given: readonly string[]): string | undefined {
  return hasMany(operands) ? undefined : given[operands.length];
}

const PLACES = /\b(?:LABEL|WORD|PATH|ADDRESS)\b/;

function whatWasMeant({ usage, meant = [] }: CommandDescription, word: string): string {
  const fits = { LABEL: isLabel(word), PATH: word.startsWith('/'), ADDRESS: /^[a-z-]+:/.test(word) };
  const fitting = meant.filter((command) => {
    const [place] = PLACES.exec(command) ?? [];
    return place === undefined || place === 'WORD' || fits[place as keyof typeof fits];
  });
  if (fitting.length === 0) return `usage: vproxy ${usage}`;
  const shown = escapeText(word, 64);
  return `did you mean ${fitting.map((command) => `vproxy ${command.replace(PLACES, shown)}`).join(', or ')}?`;
}

/** The error for an operand behind an option whose value must follow an equals sign; undefined if it is not behind one. */
function refuseValue(word: string, words: readonly string[], found: readonly FoundOption[]): VproxyError | undefined {
  const before = found.find(
    ({ index, option, value }) =>
      option?.takes?.isOptional === true && value === undefined && words[index + 1] === word,
  );
  if (before === undefined) return undefined;
  const long = `--${before.option?.name ?? ''}`;
  return badArgument(`unexpected argument ${quote(word)}; did you mean ${long}=${escapeText(word, 64)}?`);
}

function requireOperands({ usage, operands = [] }: CommandDescription, given: readonly string[]): void {
  const missing = operands[given.length];
  if (missing === undefined || missing.startsWith('[')) return;
  throw badArgument(`missing ${missing.replace('…', '')}; usage: vproxy ${usage}`);
}

const quote = (value: string): string => `"${escapeText(value, 64)}"`;

/** What Node puts in place of bytes that are not UTF-8. */
const REPLACEMENT = '\ufffd';

const LONGEST_SHOWN = 64;

/**
 * Throws `bad-argument` if a word of the command line, or one of these variables of the environment, is not UTF-8: Node changes
 * such words silently, and the command would act on another file.
 */
export function requireUtf8(words: readonly string[], variables: readonly string[] = []): void {
  if (words.some(isSuspect)) requireEach('cmdline', () => true);
  const names = variables.filter((name) => isSuspect(process.env[name] ?? ''));
  if (names.length > 0) requireEach('environ', (entry) => names.some((name) => entry.startsWith(`${name}=`)));
}

const isSuspect = (text: string): boolean => text.includes(REPLACEMENT);

function requireEach(file: 'cmdline' | 'environ', isMeant: (entry: string) => boolean): void {
  // As latin1, each byte is a character.
  for (const entry of readFileSync(`/proc/self/${file}`, 'latin1').split('\0')) {
    if (!isMeant(entry) || isUtf8(Buffer.from(entry, 'latin1'))) continue;
    const shown = entry
      .slice(0, LONGEST_SHOWN)
      .replace(/[^ -~]|\\/g, (byte) => `\\x${byte.charCodeAt(0).toString(16).padStart(2, '0')}`);
    throw badArgument(`"${shown}${entry.length > LONGEST_SHOWN ? '…' : ''}": not UTF-8`);
  }
}
