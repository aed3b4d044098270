/** What the first word of `vproxy exec` means: a command, or the label of a channel without its colon. */
import { getValue } from '../../lib/control/client/plain-http.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { suggestOrList } from '../../lib/util/closest-word.js';
import { escapeText, quoteWord } from '../../lib/util/escape.js';
import { cutLabel, isLabel } from '../../lib/util/labels.js';
import { findSocket } from '../command/find-process.js';
import { type ExecArguments, readExecArguments } from './exec-options.js';

/** Names that shells know and that are seldom programs. */
const BUILTINS: ReadonlySet<string> = new Set(
  'alias bg bind break builtin cd command declare dirs eval exec exit export fg history jobs let local logout popd pushd read readonly set shift shopt source trap type typeset ulimit umask unalias unset wait .'.split(
    ' ',
  ),
);

/**
 * Takes the first word of a command for the label of its channel, if a channel has that name: always if `--` follows it, and
 * otherwise unless a program here has it too. For arguments that name no channel, and whose command does not follow `--`: those
 * read from `words`. Leaves them unchanged if the process cannot be asked. Throws `bad-argument` for wrong options behind it.
 */
export async function takeLabel(args: ExecArguments, words: readonly string[]): Promise<ExecArguments> {
  const [first = '', second] = args.argv;
  if (!isLabel(first)) return args;
  if (second !== '--' && (await isProgramHere(first))) return args;
  const at = words.length - args.argv.length;
  if (!(await labels(args)).includes(first)) return args;
  return readExecArguments([...words.slice(0, at), `${first}:`, ...words.slice(at + 1)], process.env);
}

/** What was meant by a command that the peer did not run, as text to append to the message; empty if not known. */
export async function suggestCommand(args: ExecArguments): Promise<string> {
  const { argv, given, channel } = args;
  const [first = '', ...rest] = argv;
  // What was given stays.
  const suggest = (...words: readonly string[]): string =>
    `did you mean vproxy ${[args.isShell ? 'shell' : 'exec', ...given.map(shellWord), ...words].join(' ')}?`;
  const quoted = rest.map(shellWord);
  if (/^[a-z_]\w*=/i.test(first)) return `; ${suggest('-e', shellWord(first), ...quoted)}`;
  if (/\s/.test(first) || BUILTINS.has(first)) {
    const text = escapeText(argv.join(' '), 200);
    const quote = text.includes("'") ? '"' : "'";
    return `; no shell reads the command: ${suggest(`sh -c ${quote}${text}${quote}`)}`;
  }
  if (channel !== undefined || args.isEnded) return '';
  const named = cutLabel(first, ':') ?? { label: first, rest: '' };
  const known = await labels(args);
  const [, user = '', host = ''] = /^([\w.-]+)@([^:]+):?$/.exec(first) ?? [];
  if (known.includes(host)) return `; ${suggest('--user', user, `${host}:`, ...quoted)}`;
  if (!known.includes(named.label))
    return first.includes(':') && known.length > 0
      ? `; no channel "${named.label}"; ${suggestOrList(named.label, known)}`
      : '';
  return `; ${suggest(`${named.label}:`, ...(named.rest === '' ? [] : [shellWord(named.rest)]), ...quoted)}`;
}

/** A word as a shell needs it, unless it is too long to show. */
const shellWord = (word: string): string => quoteWord(escapeText(word, 64));

/** The labels of the channels of the process; none if it cannot be asked. */
async function labels({ socket, name }: ExecArguments): Promise<string[]> {
  try {
    const channels = await getValue<ChannelStatus[]>(await findSocket({ socket, name }), '/v1/channels');
    return channels.map(({ label }) => label);
  } catch {
    return [];
  }
}

async function isProgramHere(name: string): Promise<boolean> {
  const { locateProgram } = await import('../../lib/system/processes/find-program.js');
  return locateProgram(name, process.env['PATH']) !== name;
}
