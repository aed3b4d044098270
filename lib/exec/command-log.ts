/** What is logged of commands: a command as it is shown, and the events of its start, its end and its refusal. */
import { VproxyError } from '../errors.js';
import { type Log, makeEvent } from '../events.js';
import { escapeText } from '../util/escape.js';
import { type ExecResult } from './exec-messages.js';

/** A command, as the log shows it: cut, since it is kept for as long as the command runs. */
export interface CommandFacts {
  readonly argv: readonly string[];
  /** Who it is run as; null where that was not decided. */
  readonly user: string | null;
  readonly cwd: string | null;
  /** Where the caller's stream came from, as it says. */
  readonly from: string | null;
}

/** How much of a command is shown. */
const MAX_ARGUMENTS = 32;

const MAX_ARGUMENT_LENGTH = 256;

const MAX_LINE_LENGTH = 200;

/** The part of a command that is shown, which keeps nothing of the rest in memory. */
export function commandFacts({ argv, user, cwd, from }: CommandFacts): CommandFacts {
  const shown = argv.slice(0, MAX_ARGUMENTS).map(cut);
  if (argv.length > MAX_ARGUMENTS) shown.push(`… ${argv.length - MAX_ARGUMENTS} more`);
  return { argv: shown, user: cutOrNull(user), cwd: cutOrNull(cwd), from: cutOrNull(from) };
}

/** `recording` is the path of the recording of its terminal; null: it has none. */
export function logStarted(log: Log, facts: CommandFacts, pid: number, recording: string | null): void {
  const fields = { ...facts, pid, ...(recording !== null && { recording }) };
  const message = `command ${showLine(facts)} runs as ${escapeText(facts.user ?? '')}, pid ${pid}`;
  log(makeEvent('exec-started', message, fields));
}

/** The peer runs it for this side, in a terminal that is recorded here; `pid` is what the peer says. */
export function logRecorded(log: Log, facts: CommandFacts, pid: number | null, recording: string): void {
  const message = `command ${showLine(facts)} at the peer is recorded in ${escapeText(recording)}`;
  log(makeEvent('exec-recorded', message, { ...facts, pid, recording }));
}

/** `inputBytes` came for it, `outputBytes` came of it. */
export function logEnded(
  log: Log,
  facts: CommandFacts,
  pid: number,
  recording: string | null,
  { status, signal, timedOut, durationMs }: ExecResult,
  { inputBytes, outputBytes }: { readonly inputBytes: number; readonly outputBytes: number },
): void {
  const how = signal === null ? `status ${status ?? 'unknown'}` : signal;
  const why = timedOut ? ', its time was up' : '';
  const message = `command ${showLine(facts)}, pid ${pid}: ${how}${why}, ${Math.round(durationMs)} ms`;
  const result = { status, signal, timedOut, durationMs: Math.round(durationMs) };
  const fields = { ...facts, pid, ...result, inputBytes, outputBytes, ...(recording !== null && { recording }) };
  log(makeEvent('exec-ended', message, fields));
}

export function logRefused(log: Log, facts: CommandFacts, { code, message: why }: VproxyError): void {
  const message = `command ${showLine(facts)} is not run: ${why} (${code})`;
  log(makeEvent('exec-refused', message, { ...facts, code, reason: why }));
}

function showLine({ argv }: CommandFacts): string {
  return argv.length === 0 ? 'of a login shell' : escapeText(argv.slice(0, MAX_ARGUMENTS).join(' '), MAX_LINE_LENGTH);
}

/** Not escaped: the writer of a line does that. A slice would keep the whole text alive. */
const cut = (text: string): string =>
  text.length > MAX_ARGUMENT_LENGTH
    ? `${Buffer.from(text.slice(0, MAX_ARGUMENT_LENGTH), 'utf16le').toString('utf16le')}…`
    : text;

const cutOrNull = (text: string | null): string | null => (text === null ? null : cut(text));
