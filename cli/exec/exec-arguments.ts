/** What `vproxy exec` and `vproxy shell` are asked for. */
import { VproxyError } from '../../lib/errors.js';
import { cutLabel } from '../../lib/util/labels.js';
import { type CommandOption, type CommandOptions, commonOptions } from '../command/arguments.js';
import { EXEC_OPTIONS, SHELL_OPTIONS } from './exec-options.js';

/** A command line, read. */
export interface ExecArguments {
  readonly isHelp: boolean;
  readonly socket: string | undefined;
  readonly name: string | undefined;
  /** The label of the channel. */
  readonly channel: string | undefined;
  /** Empty: the login shell. */
  readonly argv: readonly string[];
  /** Null where nothing is said of a terminal. */
  readonly wantsTerminal: boolean | null;
  readonly hasInput: boolean;
  readonly isJson: boolean;
  readonly cwd: string | undefined;
  readonly env: Readonly<Record<string, string>>;
  readonly user: string | undefined;
  readonly timeoutMs: number | undefined;
  readonly killAfterMs: number | undefined;
}

/** Reads the words from `exec` or `shell` on; `environment` has the values of `--env NAME`. Throws `bad-argument`. */
export function readExecArguments(
  [command = '', ...words]: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): ExecArguments {
  const isShell = command === 'shell';
  const known = { ...(isShell ? SHELL_OPTIONS : EXEC_OPTIONS), ...commonOptions({}) };
  const { options, operands, label } = parseWithLabel(words, known);
  const text = (name: string): string | undefined => options.get(name)?.[0];
  const channel = text('channel');
  const isJson = options.has('json');
  const isHelp = options.has('help');
  if (channel !== undefined && label !== undefined) throw bad(`${label}: cannot stand with --channel`);
  if (options.has('tty') && options.has('no-tty')) throw bad('-t: cannot stand with -T');
  if (options.has('tty') && isJson) throw bad('-t: cannot stand with --json');
  if (isShell && operands.length > 0) throw bad('a shell takes no command; use vproxy exec');
  return {
    isHelp,
    socket: text('socket'),
    name: text('name'),
    channel: channel ?? label,
    argv: operands,
    wantsTerminal: options.has('no-tty') || isJson ? false : options.has('tty') || null,
    hasInput: !options.has('no-stdin'),
    isJson,
    cwd: text('cwd'),
    env: readEnvironment(options.get('env') ?? [], environment),
    user: text('user'),
    timeoutMs: readSeconds('timeout', text('timeout')) || undefined,
    killAfterMs: readSeconds('kill-after', text('kill-after')),
  };
}

/** Options may stand before a label and behind it. */
function parseWithLabel(
  words: readonly string[],
  known: Parameters<typeof parseWords>[1],
): Pick<ExecWords, 'options' | 'operands'> & { readonly label: string | undefined } {
  const first = parseWords(words, known);
  const [word = ''] = first.operands;
  const named = cutLabel(word, ':');
  if (first.hasSeparator || named?.rest !== '') return { ...first, label: undefined };
  const before = words.slice(0, words.length - first.operands.length);
  return { ...parseWords([...before, ...first.operands.slice(1)], known), label: named.label };
}

function readEnvironment(
  texts: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const found = new Map<string, string>();
  for (const text of texts) {
    const equals = text.indexOf('=');
    const name = equals === -1 ? text : text.slice(0, equals);
    if (name === '') throw bad(`--env: ${JSON.stringify(text.slice(0, 64))} has no name; expected NAME or NAME=VALUE`);
    const value = equals === -1 ? environment[name] : text.slice(equals + 1);
    // As docker has it: a variable that is not set here is not set there.
    if (value !== undefined) found.set(name, value);
  }
  return Object.fromEntries(found);
}

const MAX_SECONDS = 1e9;

/** In milliseconds. */
function readSeconds(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = /^\d{1,10}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
  if (seconds <= MAX_SECONDS) return seconds * 1000;
  throw bad(`--${name}: ${JSON.stringify(text.slice(0, 64))} is not a number of seconds from 0 to ${MAX_SECONDS}`);
}

const bad = (message: string): VproxyError => new VproxyError('bad-argument', message);

// The words behind `vproxy exec`. Its options end where the command begins, and every module that is loaded costs time: so it
// has a reader of its own.

/** What was given. */
interface ExecWords {
  /** By their long names; a flag has an empty value. */
  readonly options: ReadonlyMap<string, readonly string[]>;
  /** What stands behind the options, as it is. */
  readonly operands: readonly string[];
  /** Whether `--` stands before the operands. */
  readonly hasSeparator: boolean;
}

/** Reads options up to the first word that is none, or up to `--`. Throws `bad-argument`. */
function parseWords(words: readonly string[], known: CommandOptions): ExecWords {
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
