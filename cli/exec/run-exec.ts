/**
 * `vproxy exec` and `vproxy shell`, from their words to the end of the process. Loads as little as possible, as late as
 * possible.
 */
import { fstatSync, read, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { Readable } from 'node:stream';
import { isatty } from 'node:tty';
import { ServiceStream } from '../../lib/control/client/connect-service.js';
import { ERROR_CODES, toVproxyError, VproxyError } from '../../lib/errors.js';
import {
  type CommandEnd,
  type CommandOutput,
  type ExecCall,
  openError,
  runCommand,
  streamOver,
} from '../../lib/services/exec/exec-call.js';
import { DEFAULT_KILL_AFTER_MS, EXEC_SERVICE, type ExecRequest } from '../../lib/services/exec/exec-messages.js';
import type { ExecResult } from '../../lib/status/types.js';
import { readBuffered } from '../../lib/system/sockets/node-sockets.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { openServiceSocket } from '../command/open-service.js';
import { requireUtf8 } from '../command/read-words.js';
import { paintFor } from '../ui/color.js';
import { EXEC_COMMAND, type ExecArguments, readExecArguments, SHELL_COMMAND } from './exec-options.js';
import type { JoinedTerminal } from './join-terminal.js';
import { type RelayedOutput, relayOutput, relayToEnd } from './relay-output.js';

/** How long to wait for the end of the stream after that of its command, in milliseconds. */
const STREAM_END_MS = 500;

/** Runs `words` (from `exec` or `shell` on), and exits with the status of the command. */
export async function runExec(words: readonly string[]): Promise<never> {
  process.on('uncaughtException', (error) => {
    complain(`internal: ${escapeText(error.message)}`);
    process.exit(failureStatus ?? OWN_FAILURE);
  });
  try {
    const read = readExecArguments(words, process.env);
    ({ failureStatus } = read);
    failUnlessUtf8(words, read);
    const args = read.channel === undefined && !read.isEnded ? await (await firstWord()).takeLabel(read, words) : read;
    if (args.isHelp) process.exit(await showHelp(words[0]));
    // Exit explicitly: open handles such as standard input would keep the process alive.
    process.exit(await runAs(args)(args));
  } catch (error) {
    const failure = toVproxyError(error);
    complain(failure.message);
    process.exit(statusOfCode(failure.code));
  }
}

const runAs = ({ detach: job, keptAs, isJson }: ExecArguments) =>
  job !== undefined ? detach : keptAs !== undefined ? keep : isJson ? runForJson : run;

/** Exits with 64, like other commands, before anything is sent. */
function failUnlessUtf8(words: readonly string[], { envNames }: ExecArguments): void {
  try {
    requireUtf8(words, envNames);
  } catch (error) {
    complain(toVproxyError(error).message);
    process.exit(failureStatus ?? ERROR_CODES['bad-argument'].exit);
  }
}

async function run(args: ExecArguments): Promise<number> {
  const terminal = await terminalFor(args);
  let outputs: RelayedOutput[] = [];
  const call = await open(args, terminal, () => outputs.length > 0 && outputs.every((output) => output.isIdle()));
  try {
    const end = await new Promise<CommandEnd>((resolve, reject) => {
      outputs = [relayOutput(call.stdout, 1, reject), relayOutput(call.stderr, 2, reject)];
      if (terminal?.isLocal === true) terminal.start(call, reject);
      else relayAll(call, args, reject);
      call.result.then(async (result) => {
        await Promise.all(outputs.map((output) => output.written()));
        resolve(result);
      }, reject);
    });
    if (end.error !== null) complain(`${escapeText(end.error.message, 1000)}${await hintFor(end.error.code, args)}`);
    await streamOver(call, STREAM_END_MS);
    return statusOfEnd(end);
  } finally {
    terminal?.stop();
  }
}

/** Starts a job, and prints its name. */
async function detach(args: ExecArguments): Promise<number> {
  const { startJob } = await import('../../lib/services/exec/jobs/job-calls.js');
  const { print } = await import('../ui/print.js');
  const { joinTerminal } = await import('./join-terminal.js');
  const terminal = args.wantsTerminal === true ? joinTerminal(false) : null;
  const { id } = await startJob(() => openStream(args), requestOf(args, terminal));
  print(`${args.channel === undefined ? '' : `${args.channel}/`}${id}\n`);
  return 0;
}

async function keep(args: ExecArguments): Promise<number> {
  const { keepShell } = await import('./kept-shell.js');
  return keepShell(() => openStream(args), requestOf(args, null), args, statusOfEnd);
}

async function runForJson(args: ExecArguments): Promise<number> {
  const { collectOutput } = await import('../../lib/services/exec/exec-call.js');
  const { reportOf } = await import('./json-report.js');
  const { formatJson } = await import('../../lib/util/escape.js');
  const startedAt = new Date();
  const outcome = await runCollected().catch((error: unknown) => toVproxyError(error));
  const report = Readable.from([Buffer.from(`${formatJson(reportOf(outcome, startedAt))}\n`)]);
  await relayToEnd(report);
  return outcome instanceof VproxyError ? statusOfCode(outcome.code) : statusOfEnd(outcome);

  async function runCollected(): Promise<CommandOutput> {
    const call = await open(args, null);
    const output = await Promise.race([
      collectOutput(call),
      new Promise<never>((_resolve, reject) => relayAll(call, args, reject)),
    ]);
    await streamOver(call, STREAM_END_MS);
    return output;
  }
}

async function terminalFor(args: ExecArguments): Promise<JoinedTerminal | null> {
  const { wantsTerminal, isTerminalForced, isShell, argv, hasInput } = args;
  if (wantsTerminal === false || (wantsTerminal === null && !isShell && argv.length > 0)) return null;
  if (wantsTerminal === true && hasInput && !isTerminalForced && !isatty(0))
    throw new VproxyError('bad-argument', '-t: the input is not a terminal; use -tt to run the command in one anyway');
  const { isAtTerminal, joinTerminal } = await import('./join-terminal.js');
  return wantsTerminal === true || isAtTerminal() ? joinTerminal(hasInput) : null;
}

const open = async (args: ExecArguments, terminal: JoinedTerminal | null, isFree?: () => boolean): Promise<ExecCall> =>
  runCommand(await openStream(args, isFree), requestOf(args, terminal));

function requestOf(args: ExecArguments, terminal: JoinedTerminal | null): ExecRequest {
  const { argv, cwd, env, user, hasInput, isFed, timeoutMs, killAfterMs, detach } = args;
  return {
    argv,
    ...(cwd !== undefined && { cwd }),
    ...(Object.keys(env).length > 0 && { env }),
    ...(user !== undefined && { user }),
    ...(terminal !== null && { terminal: terminal.request }),
    ...((!hasInput || isFed) && { hasInput }),
    ...(timeoutMs !== undefined && { timeoutMs }),
    ...(killAfterMs !== undefined && { killAfterMs }),
    ...(detach !== undefined && { detach }),
  };
}

/** `isFree`: see {@link ServiceStream}; default: never. */
async function openStream(args: ExecArguments, isFree?: () => boolean): Promise<ServiceStream> {
  try {
    const { socket, name, channel } = args;
    const service = await openServiceSocket({ socket, name, service: EXEC_SERVICE, channel, isAttached: true });
    return new ServiceStream(service, isFree);
  } catch (error) {
    const { code, message } = openError(error);
    throw new VproxyError(code, `${message}${await (await firstWord()).suggestCommand(args)}`, { cause: error });
  }
}

/** A hint for a command that the peer did not run. */
const hintFor = async (code: string, args: ExecArguments): Promise<string> =>
  code === 'command-not-found' || code === 'command-denied' ? (await firstWord()).suggestCommand(args) : '';

const firstWord = () => import('./first-word.js');

/** Forwards input and signals of a command without a local terminal. */
function relayAll(call: ExecCall, { hasInput, killAfterMs }: ExecArguments, onFailure: (error: Error) => void): void {
  relaySignals(call, killAfterMs);
  if (!hasInput) return;
  const { stdin } = process;
  const room = Buffer.allocUnsafeSlow(INPUT_BYTES);
  const send = (byteCount: number, goOn: () => void) => call.stdin.write(room.subarray(0, byteCount), goOn);
  const fail = (error: Error) => onFailure(new VproxyError('local-error', `standard input: ${describeError(error)}`));
  const readFile = (): void =>
    read(0, room, (error, byteCount) => {
      if (error !== null) fail(error);
      else if (byteCount === 0) call.stdin.end();
      else send(byteCount, readFile);
    });
  if (fstatSync(0).isFile()) {
    readFile();
    return;
  }
  stdin.on('error', fail).once('end', () => call.stdin.end());
  readBuffered(stdin, {
    buffer: () => room,
    callback: (byteCount) => {
      send(byteCount, () => stdin.resume());
      return false;
    },
  });
}

/** The most that is read of standard input at once. */
const INPUT_BYTES = 262_144;

async function showHelp(name: string | undefined): Promise<number> {
  const { formatHelp, helpWidth } = await import('../command/help.js');
  const { outputWidth, print } = await import('../ui/print.js');
  const [shown, command] = name === 'shell' ? (['shell', SHELL_COMMAND] as const) : (['exec', EXEC_COMMAND] as const);
  print(formatHelp(shown, command, helpWidth(outputWidth())));
  return 0;
}

/** Prints an error line, as every command of vproxy does. */
function complain(message: string): void {
  try {
    writeSync(2, `vproxy: ${paintFor({ isTTY: isatty(2) })('error: ', 'bad')}${message}\n`);
  } catch {
    // Standard error is not read.
  }
}

// The exit status of `vproxy exec`: that of the command, if it has one.

/** For every failure of vproxy itself. */
const OWN_FAILURE = ERROR_CODES['exec-unavailable'].exit;

/** Replaces the status of every failure, also of a command that was not run; null if none was given. */
let failureStatus: number | null = null;

/** For a command that timed out, as with timeout(1). */
const TIMED_OUT = 124;

/** For a command that was abandoned at the third SIGINT, or after SIGKILL had no effect. */
const INTERRUPTED = 128 + 2;
const TERMINATED = 128 + 15;

export function statusOfEnd({ status, signal, timedOut, error }: ExecResult): number {
  if (error !== null) return statusOfCode(error.code);
  if (timedOut) return TIMED_OUT;
  if (status !== null) return status;
  // A signal that this system does not know has no number; `SIG35` has one.
  const numbers: Readonly<Record<string, number>> = constants.signals;
  return 128 + (numbers[signal ?? ''] ?? Number(/^SIG(\d\d)$/.exec(signal ?? '')?.[1] ?? 0));
}

/** A command that could not be run has its own status; everything else is a failure of vproxy. */
function statusOfCode(code: string): number {
  if (failureStatus !== null) return failureStatus;
  const isCommands = code === 'command-not-found' || code === 'command-denied' || code === 'command-failed';
  return isCommands ? ERROR_CODES[code].exit : OWN_FAILURE;
}

// Signals to this process, for the command at the peer.

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const;

/** This many interrupts within this time, in milliseconds, abandon the command. */
const GIVE_UP_COUNT = 3;
const GIVE_UP_MS = 1000;

/** Forwards signals. A second SIGTERM is followed by SIGHUP, which interactive shells obey, and later by SIGKILL. */
function relaySignals(call: ExecCall, killAfterMs = DEFAULT_KILL_AFTER_MS): void {
  const interruptedAt: number[] = [];
  for (const signal of SIGNALS) {
    process.on(signal, () => {
      call.signal(signal);
      if (signal !== 'SIGINT') return;
      interruptedAt.push(performance.now());
      const first = interruptedAt.at(-GIVE_UP_COUNT);
      if (first !== undefined && performance.now() - first <= GIVE_UP_MS) process.exit(INTERRUPTED);
    });
  }
  const kill = (): void => {
    call.signal('SIGKILL');
    setTimeout(() => process.exit(TERMINATED), GIVE_UP_MS);
  };
  process.once('SIGTERM', () =>
    process.once('SIGTERM', () => {
      call.signal('SIGHUP');
      setTimeout(kill, killAfterMs);
    }),
  );
}
