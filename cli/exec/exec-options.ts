/** `vproxy exec` and `vproxy shell` as commands, and the parsing of their words. */
import { type Detachment, MAX_KEEP_BYTES } from '../../lib/services/exec/exec-messages.js';
import { escapeText } from '../../lib/util/escape.js';
import { cutLabel, isLabel } from '../../lib/util/labels.js';
import { type Arguments, badArgument } from '../command/arguments.js';
import type { CommandDescription, CommandOptions } from '../command/command.js';
import { channelOf } from '../command/labels.js';
import { readArguments } from '../command/read-words.js';

const SHARED_OPTIONS = {
  channel: { value: 'LABEL', describe: 'The channel; also LABEL: before the command [default: the only one]' },
  'no-tty': { short: 'T', describe: 'Run the command without a terminal' },
  cwd: { short: 'w', value: 'DIR', describe: 'The folder to run it in [default: the home there]' },
  workdir: { value: 'DIR', describe: 'The same as --cwd', isHidden: true },
  env: {
    short: 'e',
    value: 'NAME[=VALUE]',
    isRepeatable: true,
    describe: 'Set a variable in its environment; without =VALUE, to its value here',
  },
  user: { short: 'u', value: 'NAME', describe: 'The user to run it as [default: that of the proxy there]' },
} as const satisfies CommandOptions;

export const EXEC_COMMAND: CommandDescription = {
  usage: 'exec [LABEL:] [options] [--] [CMD [ARG…]]',
  about:
    "Runs a command at the peer of a channel, with this command's standard input, output and error, signals and exit status; without CMD, the login shell. Options end at the first word that is not one. If vproxy itself fails, the status is 125.",
  examples: [
    ['vproxy exec vm1: make -C /src test', 'Run a command, and get its output and exit status'],
    ['tar c . | vproxy exec vm1: tar x -C /srv', 'With input'],
    ['vproxy exec vm1: -t --cwd /srv -- vi notes', 'In a terminal'],
    ['vproxy exec --detach --tag build vm1: make -C /src', 'As a job, for vproxy attach'],
  ],
  options: {
    ...SHARED_OPTIONS,
    tty: { short: 't', describe: 'Run the command in a terminal; -tt even if the input here is not one' },
    interactive: { short: 'i', describe: 'Pass standard input, as without -n' },
    'no-stdin': { short: 'n', describe: 'Do not pass standard input' },
    timeout: { value: 'SECONDS', describe: 'Stop it after this time, with status 124 [default: never]' },
    'kill-after': {
      value: 'SECONDS',
      describe: 'Time from TERM to KILL; at most 30 once the caller has gone [default: 5]',
    },
    'failure-status': {
      value: 'STATUS',
      describe: 'The exit status if the command was not run, or its result is unknown [default: 125 to 127]',
    },
    json: { describe: 'Print its result and output as one JSON object' },
    detach: { short: 'd', describe: 'Start it as a job, which outlives this command, and print [LABEL/]ID' },
    input: { describe: 'Give the job an input, for vproxy attach --input; with -t it has one' },
    tag: { value: 'TEXT', describe: 'A name for the job, which vproxy jobs shows' },
    keep: { value: 'BYTES', describe: 'How much of its output is kept: up to 16MiB [default: 1MiB]' },
  },
  operands: ['[LABEL:]', '[CMD]', '[ARG…]'],
  endsAtOperand: true,
};

export const SHELL_COMMAND: CommandDescription = {
  usage: 'shell [LABEL] [options] [CMD [ARG…]]',
  about:
    'Runs the login shell, or CMD, at the peer of a channel, in a terminal if there is one here. Enter ~ . disconnects from a shell that no longer answers.',
  examples: [
    ['vproxy shell vm1', 'The login shell of vm1'],
    ['vproxy shell vm1 top', 'A command in a terminal'],
    ['vproxy shell vm1 < commands', 'Run commands from a file'],
    ['vproxy shell --keep work vm1', 'One that is kept: Ctrl-\\ leaves it'],
  ],
  options: {
    ...SHARED_OPTIONS,
    keep: { value: 'NAME', describe: 'Start a job with this tag, or come back to it' },
    steal: { describe: 'With --keep: take it over from another caller' },
  },
  operands: ['[LABEL]', '[CMD]', '[ARG…]'],
  endsAtOperand: true,
};

/** The parsed words of either command. */
export type ExecArguments = ReturnType<typeof readExecArguments>;

const MAX_SECONDS = 1e9;

/** Parses the words from `exec` or `shell` on; `environment` has the values of `--env NAME`. Throws `bad-argument`. */
export function readExecArguments(
  [command = '', ...words]: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
) {
  const isShell = command === 'shell';
  const { args, label } = readWithLabel(isShell ? SHELL_COMMAND : EXEC_COMMAND, words, isShell);
  const isJson = args.has('json');
  const timeoutS = args.seconds('timeout', 0, MAX_SECONDS);
  const killAfterS = args.seconds('kill-after', 0, MAX_SECONDS);
  const failureStatus = args.whole('failure-status', 'a whole number', 0, 255);
  if (args.has('tty') && args.has('no-tty')) throw badArgument('-t: not allowed with -T');
  if (args.has('interactive') && args.has('no-stdin')) throw badArgument('-i: not allowed with -n');
  if (args.has('tty') && isJson) throw badArgument('-t: not allowed with --json');
  if (args.has('input') && args.has('no-stdin')) throw badArgument('--input: not allowed with -n');
  if (args.has('steal') && !args.has('keep')) throw badArgument('--steal: needs --keep');
  if (isShell && args.has('keep') && args.has('no-tty')) throw badArgument('--keep: not allowed with -T');
  return {
    isHelp: args.has('help'),
    socket: args.text('socket'),
    name: args.text('name'),
    channel: channelOf(args, label),
    /** Empty: the login shell. */
    argv: args.operands,
    /** The words before them. */
    given: words.slice(0, words.length - args.operands.length),
    /** Whether `--` precedes the command. */
    isEnded: args.separatorAt !== null,
    isShell,
    /** Null if no option decides about a terminal. */
    wantsTerminal: args.has('no-tty') || isJson ? false : args.has('tty') || null,
    /** Whether it may have one although the input here is not a terminal. */
    isTerminalForced: args.texts('tty').length > 1,
    hasInput: !args.has('no-stdin'),
    /** Whether a job without a terminal has an input. */
    isFed: args.has('input'),
    isJson,
    detach: isShell ? undefined : readDetachment(args),
    /** The tag of the job that `shell --keep` starts or comes back to. */
    keptAs: isShell ? args.text('keep') : undefined,
    steal: args.has('steal'),
    cwd: args.text('cwd') ?? args.text('workdir'),
    env: readEnvironment(args.texts('env'), environment),
    /** The variables whose value is the one here. */
    envNames: args.texts('env').filter((text) => !text.includes('=')),
    user: args.text('user'),
    // 0 means no timeout.
    timeoutMs: timeoutS === undefined || timeoutS === 0 ? undefined : timeoutS * 1000,
    killAfterMs: killAfterS === undefined ? undefined : killAfterS * 1000,
    /** Null: one for each kind of failure. */
    failureStatus: failureStatus ?? null,
  };
}

/** Allows options before a label and after it. `isBare`: the first operand is the label, so it needs no colon. */
function readWithLabel(
  command: CommandDescription,
  words: readonly string[],
  isBare: boolean,
): { readonly args: Arguments; readonly label: string | undefined } {
  // The words after a label are parsed below.
  const args = readArguments({ ...command, operands: ['[WORD…]'] }, words);
  const [first = '', ...others] = args.operands;
  const named = cutLabel(first, ':') ?? (isBare && isLabel(first) ? { label: first, rest: '' } : null);
  if (args.separatorAt !== null || named?.rest !== '') return { args, label: undefined };
  const before = words.slice(0, words.length - args.operands.length);
  const all = readArguments(command, [...before, ...others]);
  return { args: all, label: named.label };
}

/** Undefined without `--detach`. */
function readDetachment(args: Arguments): Detachment | undefined {
  const isDetached = args.has('detach');
  const unfit = (isDetached ? ['interactive', 'json'] : ['tag', 'keep', 'input']).find((option) => args.has(option));
  if (unfit !== undefined) throw badArgument(`--${unfit}: ${isDetached ? 'not allowed with' : 'needs'} --detach`);
  if (!isDetached) return undefined;
  return { tag: args.text('tag'), keepBytes: args.bytes('keep', MAX_KEEP_BYTES) };
}

function readEnvironment(
  texts: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Record<string, string> {
  const found = new Map<string, string>();
  for (const text of texts) {
    const equals = text.indexOf('=');
    const name = equals === -1 ? text : text.slice(0, equals);
    if (name === '') throw badArgument(`--env: "${escapeText(text, 64)}" has no name; expected NAME or NAME=VALUE`);
    const value = equals === -1 ? environment[name] : text.slice(equals + 1);
    // As in docker: a variable that is unset here stays unset there.
    if (value !== undefined) found.set(name, value);
  }
  return Object.fromEntries(found);
}
