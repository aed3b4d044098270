/**
 * Completes a command line of vproxy. The shell scripts (`scripts.ts`) call `vproxy __complete vproxy WORD… CURRENT`, or
 * pass `--line` and the line up to the cursor if the shell cannot split it into words.
 */
import { type Command, type NamedOption, optionsOf } from '../command/command.js';
import { hasMany, splitWords } from '../command/read-words.js';
import { type FoundCommand, findCommand, firstWords, NAMED_COMMANDS, secondWords } from '../command/table.js';
import { type AddressContext, completeChannel, completeForward } from './addresses.js';
import {
  type Completion,
  type LiveSource,
  liveNames,
  type NamedThing,
  offer,
  offerPaths,
  processNames,
  valueSort,
} from './values.js';

/** Prints the completion in lines: what the shell adds, the text before that, the typed text, and WORD, tab, SUMMARY each. */
export async function printCompletion(args: readonly string[]): Promise<void> {
  const [first, line = ''] = args;
  // Nothing reads an error: offer nothing instead.
  const completion = await complete(first === '--line' ? splitLine(line) : args).catch(() => null);
  if (completion === null) return;
  const { adds, before, typed, words } = completion;
  const lines = [adds, before, typed, ...words.map(({ name, summary }) => `${name}\t${summary}`)];
  process.stdout.on('error', () => process.exit());
  // Do not wait for a process that has not answered.
  process.stdout.write(`${lines.join('\n')}\n`, () => process.exit());
}

/** Completes the last of `words`; the first is the program. */
export async function complete(words: readonly string[]): Promise<Completion> {
  const behind = words.slice(1, -1);
  const current = words.length > 1 ? (words.at(-1) ?? '') : '';
  if (behind.length === 0 && !current.startsWith('-')) return offer(current, firstNames());
  const isHelp = behind[0] === 'help' && !current.startsWith('-');
  if (isHelp && behind.length === 1) return offer(current, firstNames());
  const found = findCommand(isHelp ? behind.slice(1) : behind);
  if (isHelp || found.entry === null) return offer(current, secondNames(found));
  const rest = await completeBehind(await found.entry.load(), found.words, current);
  // `jobs` is a command itself.
  return { ...rest, words: [...offer(current, secondNames(found)).words, ...rest.words] };
}

/** The second words of commands, if only the first one is given. */
const secondNames = ({ name, words }: FoundCommand): NamedThing[] =>
  words.length === 0 ? secondWords(name).map((second) => summaryOf(second, `${name} ${second}`)) : [];

const summaryOf = (word: string, name: string): NamedThing => ({
  name: word,
  summary: NAMED_COMMANDS[name]?.summary ?? '',
});

/** The first words of commands; the summary of one that several share lists the second words. */
function firstNames(): NamedThing[] {
  return firstWords().map((first) => {
    const seconds = secondWords(first);
    return seconds.length === 0 ? summaryOf(first, first) : { name: first, summary: `Commands: ${seconds.join(', ')}` };
  });
}

/** Completes what follows the name of a command and the given words. */
async function completeBehind(command: Command, given: readonly string[], current: string): Promise<Completion> {
  const options = optionsOf(command);
  const walked = walk(command, options, given);
  const { pending, values, operands: before, isEnded } = walked;
  const context = contextOf(command, walked);
  if (pending !== null) return completeValue(pending, '', current, context);
  const [, spelling, inline] = /^(--[^=]+)=(.*)$/s.exec(current) ?? [];
  if (!isEnded && spelling !== undefined && inline !== undefined) {
    const option = options.find(({ spellings }) => spellings.includes(spelling));
    return completeValue(option ?? NO_OPTION, `${spelling}=`, inline, context);
  }
  const { operands = [] } = command;
  const operand = operands[before.length] ?? (hasMany(operands) ? operands.at(-1) : undefined);
  // If nothing else can follow, offer options before a hyphen is typed.
  if (!isEnded && (current.startsWith('-') || (current === '' && operand === undefined))) {
    const left = options.filter(({ name, isRepeatable }) => isRepeatable === true || !isUsed(name, values));
    return offer(
      current,
      left.flatMap(({ spellings, describe }) => spellings.map((name) => ({ name, summary: describe }))),
    );
  }
  return completeValue({ name: '', takes: { called: operand ?? '' } }, '', current, context);
}

/** A value, by its placeholder and its option. */
type Valued = Pick<NamedOption, 'name' | 'offers'> & { readonly takes: { readonly called: string } | null };

const NO_OPTION: Valued = { name: '', takes: null };

const EXCLUSIVE: readonly (readonly string[])[] = [
  ['socket', 'name'],
  ['tty', 'no-tty'],
  ['outgoing', 'incoming'],
  ['interactive', 'no-stdin'],
  ['follow', 'no-follow'],
  ['json', 'output'],
];

/** Whether an option, or one that excludes it, has been given. */
const isUsed = (name: string, values: Walked['values']): boolean =>
  values.has(name) || EXCLUSIVE.some((names) => names.includes(name) && names.some((other) => values.has(other)));

/** The words before the cursor, parsed. */
interface Walked {
  /** The option whose value comes next. */
  readonly pending: NamedOption | null;
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];
  /** Whether no more options can follow. */
  readonly isEnded: boolean;
}

function walk(command: Command, options: readonly NamedOption[], given: readonly string[]): Walked {
  // Options may follow `LABEL:`.
  const endsAt = (operand: string): boolean => command.endsAtOperand === true && !operand.endsWith(':');
  const { found, operands, isEnded } = splitWords(given, options, endsAt);
  const values = new Map<string, string[]>();
  let pending: NamedOption | null = null;
  for (const { option, value } of found) {
    if (option === undefined) continue;
    if (value === undefined && option.takes?.isOptional === false) pending = option;
    else values.set(option.name, [...(values.get(option.name) ?? []), value ?? '']);
  }
  return { pending, values, operands, isEnded };
}

/** The process and the channel that the words name, for completing live names. */
function contextOf({ operands = [], options }: Command, { values, operands: given }: Walked): AddressContext {
  const last = (name: string): string | undefined => values.get(name)?.at(-1);
  // Elsewhere `-c` takes the whole text of a channel.
  const isForRunning = options['channel']?.value === 'LABEL';
  const [operand] = /^\[?LABEL/.test(operands[0] ?? '') ? given : [];
  const channel = isForRunning ? (last('channel') ?? operand?.split(/[:/]/, 1)[0]) : undefined;
  return {
    socket: last('socket'),
    name: last('name'),
    channel,
    given: isForRunning ? [] : (values.get('channel') ?? []),
    isForRunning,
  };
}

/** Completes a value; `before` precedes it in the same word. */
async function completeValue(
  valued: Valued,
  before: string,
  value: string,
  process: AddressContext,
): Promise<Completion> {
  const found = await completeText(valued, value, process);
  const words = found.words.map(({ name, summary }) => ({ name: before + name, summary }));
  if (found.adds === '') return { ...found, typed: before + found.typed, words };
  return { ...found, before: before + found.before, words };
}

async function completeText(
  { name: option, offers, takes }: Valued,
  value: string,
  process: AddressContext,
): Promise<Completion> {
  const called = (takes?.called ?? '').replace(/^\[(.*)\]$/, '$1').replace(/\u2026$/, '');
  const sort = offers ?? valueSort(called);
  switch (sort) {
    case 'none':
      return offer(value, []);
    case 'file':
      return offerPaths('', value);
    case 'folder':
      return { ...offerPaths('', value), adds: 'folders' };
    case 'user':
      return { ...offerPaths('', value), adds: 'users' };
    case 'words':
      return offer(value, called.split('|'));
    case 'remote':
      return offer(value, await labels(process));
    case 'copy':
      return { ...offer(value, /^[./]/.test(value) ? [] : await labels(process)), adds: 'files' };
    case 'process':
      return offer(value, await processNames());
    case 'place':
      return offer(value, await liveNames(value.includes('/') ? 'services' : 'channels', process, value));
    case 'channel':
      return completeChannel(value);
    case 'forward':
      return completeForward(option === 'incoming' ? option : 'outgoing', value, process);
    case 'path':
      return completePath(value);
    default:
      return offer(value, await liveNames(sort, process, value));
  }
}

async function labels(process: LiveSource): Promise<NamedThing[]> {
  return (await liveNames('channels', process)).map(({ name, summary }) => ({ name: `${name}:`, summary }));
}

/** Completes a path, which begins with a slash, maybe after the colon of a service or of a kind of channel. */
function completePath(value: string): Completion {
  const [, front = '', path] = /^([^/]*:)?(\/.*)$/s.exec(value) ?? [];
  return path === undefined ? offer(value, []) : offerPaths(front, path);
}

/** Splits a bash line up to the cursor into words without quotes; the last one is empty after a blank. */
export function splitLine(line: string): string[] {
  const words = [''];
  for (const [, blank, escaped, single, double, plain] of line.matchAll(
    /(\s+)|\\(.?)|'([^']*)'?|"((?:[^"\\]|\\.)*)"?|([^\s\\'"]+)/gs,
  )) {
    if (blank !== undefined) words.push('');
    else words.push(`${words.pop() ?? ''}${escaped ?? single ?? double?.replace(/\\(["\\$`])/g, '$1') ?? plain ?? ''}`);
  }
  return words[0] === '' ? words.slice(1) : words;
}
