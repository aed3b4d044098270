/** Log events for commands: started, ended, refused, recorded. */
import { VproxyError } from '../../errors.js';
import { type Log, makeEvent } from '../../events.js';
import type { ExecResult } from '../../status/types.js';
import { escapeText } from '../../util/escape.js';

/** A command as the log shows it; truncated, since it is kept as long as the command runs. */
export interface CommandFacts {
  readonly argv: readonly string[];
  /** The user that it runs as; null if not decided. */
  readonly user: string | null;
  readonly cwd: string | null;
  /** The origin that the caller's stream reports. */
  readonly from: string | null;
}

/** Limits on what is shown of a command. */
const MAX_ARGUMENTS = 32;

const MAX_ARGUMENT_LENGTH = 256;

const MAX_LINE_LENGTH = 200;

/** The part of a command that is shown; keeps nothing else in memory. */
export function commandFacts({ argv, user, cwd, from }: CommandFacts): CommandFacts {
  const shown = argv.slice(0, MAX_ARGUMENTS).map(cut);
  if (argv.length > MAX_ARGUMENTS) shown.push(`… ${argv.length - MAX_ARGUMENTS} more`);
  return { argv: shown, user: cutOrNull(user), cwd: cutOrNull(cwd), from: cutOrNull(from) };
}

/** A command that runs, as the log shows it. */
export interface StartedFacts extends CommandFacts {
  readonly pid: number;
  /** The path of its terminal's recording. */
  readonly recording?: string;
  readonly job?: string;
}

export function logStarted(log: Log, fields: StartedFacts): void {
  const message = `command ${showLine(fields)}: started as ${escapeText(fields.user ?? '')}, ${showIds(fields)}`;
  log(makeEvent('exec-started', message, fields));
}

/** Logs a command that the peer runs for this side, in a terminal recorded here; `pid` as the peer reports it. */
export function logRecorded(log: Log, facts: CommandFacts, pid: number | null, recording: string): void {
  const message = `command ${showLine(facts)} on the peer: recording to ${escapeText(recording)}`;
  log(makeEvent('exec-recorded', message, { ...facts, pid, recording }));
}

/** `inputBytes` arrived for the command, `outputBytes` were sent from it. */
export function logEnded(
  log: Log,
  facts: StartedFacts,
  { status, signal, timedOut, durationMs }: ExecResult,
  { inputBytes, outputBytes }: { readonly inputBytes: number; readonly outputBytes: number },
): void {
  const how = signal === null ? `exit status ${status ?? 'unknown'}` : signal;
  const why = timedOut ? ', timed out' : '';
  const message = `command ${showLine(facts)}, ${showIds(facts)}: ${how}${why}, ${Math.round(durationMs)} ms`;
  const result = { status, signal, timedOut, durationMs: Math.round(durationMs) };
  const fields = { ...facts, ...result, inputBytes, outputBytes };
  log(makeEvent('exec-ended', message, fields));
}

/** Logs that a caller became the writer of a job, or left it, with the bytes of input that it wrote. */
export function logWriter(log: Log, job: string, from: string | null, inputBytes: number | null): void {
  const fields = { job, from: cutOrNull(from) };
  const by = from === null ? '' : ` from ${escapeText(from, MAX_LINE_LENGTH)}`;
  if (inputBytes === null) log(makeEvent('exec-attached', `job ${job}: a caller${by} writes to it`, fields));
  else
    log(makeEvent('exec-detached', `job ${job}: the caller${by} left, ${inputBytes} bytes`, { ...fields, inputBytes }));
}

export function logRefused(log: Log, facts: CommandFacts, { code, message: why }: VproxyError): void {
  const message = `command ${showLine(facts)}: refused: ${why} (${code})`;
  log(makeEvent('exec-refused', message, { ...facts, code, reason: why }));
}

function showLine({ argv }: CommandFacts): string {
  return argv.length === 0 ? '(login shell)' : escapeText(argv.slice(0, MAX_ARGUMENTS).join(' '), MAX_LINE_LENGTH);
}

const showIds = ({ pid, job }: StartedFacts): string => `PID ${pid}${job === undefined ? '' : `, job ${job}`}`;

/** Not escaped: the log writer does that. A slice would keep the whole string alive, and could end in half a surrogate pair. */
function cut(text: string): string {
  if (text.length <= MAX_ARGUMENT_LENGTH) return text;
  const part = text.slice(0, MAX_ARGUMENT_LENGTH).replace(/[\ud800-\udbff]$/, '');
  return `${Buffer.from(part, 'utf16le').toString('utf16le')}…`;
}

const cutOrNull = (text: string | null): string | null => (text === null ? null : cut(text));
