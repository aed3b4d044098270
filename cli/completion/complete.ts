/**
 * What can be at the cursor of a command line of vproxy. The scripts of the shells (`scripts.ts`) ask for it by
 * `vproxy __complete vproxy WORD… CURRENT`, or by `--line` and the line up to the cursor where a shell cannot tell words.
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

/** Prints what can be at the cursor, in lines: what the shell adds, what is before that, what was typed, and each word with a tab and what is said of it. */
export async function printCompletion(args: readonly string[]): Promise<void> {
  const [first, line = ''] = args;
  // There is nobody to read an error: what cannot be known is not offered.
  const completion = await complete(first === '--line' ? splitLine(line) : args).catch(() => null);
  if (completion === null) return;
  const { adds, before, typed, words } = completion;
  const lines = [adds, before, typed, ...words.map(({ name, summary }) => `${name}\t${summary}`)];
  process.stdout.on('error', () => process.exit());
  // A process that has not answered is not waited for.
  process.stdout.write(`${lines.join('\n')}\n`, () => process.exit());
}

/** What can be in the place of the last of `words`; the first is the program. */
export async function complete(words: readonly string[]): Promise<Completion> {
  const behind = words.slice(1, -1);
  const current = words.length > 1 ? (words.at(-1) ?? '') : '';
  if (behind.length === 0 && !current.startsWith('-')) return offer(current, firstNames());
  const isHelp = behind[0] === 'help' && !current.startsWith('-');
  if (isHelp && behind.length === 1) return offer(current, firstNames());
  const found = findCommand(isHelp ? behind.slice(1) : behind);
  if (isHelp || found.entry === null) return offer(current, secondNames(found));
  return completeBehind(await found.entry.load(), found.words, current);
}

/** The second words of commands, where the first one alone is there. */
const secondNames = ({ name, entry, words }: FoundCommand): NamedThing[] =>
  entry === null && words.length === 0 ? secondWords(name).map((second) => summaryOf(second, `${name} ${second}`)) : [];

const summaryOf = (word: string, name: string): NamedThing => ({
  name: word,
  summary: NAMED_COMMANDS[name]?.summary ?? '',
});

/** The first words of commands: of a word that several share, the second ones are said. */
function firstNames(): NamedThing[] {
  return firstWords().map((first) => {
    const seconds = secondWords(first);
    return seconds.length === 0 ? summaryOf(first, first) : { name: first, summary: `Commands: ${seconds.join(', ')}` };
  });
}

/** What is offered behind the name of a command and the words that are given. */
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
  // Where nothing else can be, options are offered before a hyphen is typed.
  if (!isEnded && (current.startsWith('-') || (current === '' && operand === undefined))) {
    const left = options.filter(({ name, isRepeatable }) => isRepeatable === true || !isUsed(name, values));
    return offer(
      current,
      left.flatMap(({ spellings, describe }) => spellings.map((name) => ({ name, summary: describe }))),
    );
  }
  return completeValue({ name: '', takes: { called: operand ?? '' } }, '', current, context);
}

/** What a value is called, and of which option it is one. */
type Valued = Pick<NamedOption, 'name' | 'offers'> & { readonly takes: { readonly called: string } | null };

const NO_OPTION: Valued = { name: '', takes: null };

/** Of each of these one alone can be there. */
const EXCLUSIVE: readonly (readonly string[])[] = [
  ['socket', 'name'],
  ['tty', 'no-tty'],
  ['outgoing', 'incoming'],
  ['interactive', 'no-stdin'],
  ['follow', 'no-follow'],
];

/** Whether an option is there that may be there once, or one that excludes it. */
const isUsed = (name: string, values: Walked['values']): boolean =>
  values.has(name) || EXCLUSIVE.some((names) => names.includes(name) && names.some((other) => values.has(other)));

/** What the words before the cursor are. */
interface Walked {
  /** The option whose value comes next. */
  readonly pending: NamedOption | null;
  /** The values of each option that is there. */
  readonly values: ReadonlyMap<string, readonly string[]>;
  readonly operands: readonly string[];
  /** Whether no options come any more. */
  readonly isEnded: boolean;
}

function walk(command: Command, options: readonly NamedOption[], given: readonly string[]): Walked {
  // Behind LABEL: there may be options.
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

/** What the words say of the process, and of the channel, whose names are asked for. */
function contextOf({ operands = [], options }: Command, { values, operands: given }: Walked): AddressContext {
  const last = (name: string): string | undefined => values.get(name)?.at(-1);
  // Elsewhere `-c` has the whole text of a channel.
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

/** What can be a value that is called so; `before` is in front of it in the same word. */
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
  const called = (takes?.called ?? '').replace(/^\[(.*)\]$/, '$1').replace(/…$/, '');
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

/** A path begins with a slash, behind the colon of a service or of a kind of channel. */
function completePath(value: string): Completion {
  const [, front = '', path] = /^([^/]*:)?(\/.*)$/s.exec(value) ?? [];
  return path === undefined ? offer(value, []) : offerPaths(front, path);
}

/** The words of a line of bash up to the cursor, without their quotes; the last one is empty behind a blank. */
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
