/** The log of a command, on stderr. */

import { systemCode, toVproxyError, VproxyError } from '../../lib/errors.js';
import { LOG_LEVELS, type Log, type LogEvent, type LogLevel, makeEvent, subjectOf } from '../../lib/events.js';
import { AuditLog } from '../../lib/proxy/audit-log.js';
import type { AuditPlace, LogFormat } from '../../lib/settings/process-settings.js';
import { systemClock } from '../../lib/util/clock.js';
import { describeError, escapeText, formatJsonLine as formatLine } from '../../lib/util/escape.js';
import { formatCount } from '../../lib/util/units.js';
import { isJournal, PRIORITIES } from '../service/service-manager.js';
import { type Paint, paintFor, paintNothing, type Tone } from '../ui/color.js';
import { formatLocalTime } from '../ui/print.js';
import { sourceTrace } from './trace.js';

export interface OutputOptions {
  readonly format: LogFormat;
  /** The least important level to log. */
  readonly level: LogLevel;
  /** Whether lines show the fields of their events, and failures the stack. */
  readonly hasDetails: boolean;
  /** Whether text lines begin with the time, except in the journal, which adds its own. */
  readonly hasTimes: boolean;
}

const DEFAULTS: OutputOptions = { format: 'text', level: 'info', hasDetails: false, hasTimes: false };

/** While this many bytes wait for the reader of stderr, further lines are dropped. */
const MAX_UNWRITTEN_BYTES = 2 ** 20;

/** Any time, as all are equally long. */
const EPOCH = new Date(0);

/** What a time at the beginning of a line takes. */
const TIME_BYTES = '2026-03-31 08:59:07.250 '.length;

/** Errors of a full disk or file, which may be temporary. */
const FULL_CODES: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/**
 * Writes log events to stderr; with priorities, if that is the journal of systemd. When stderr is closed, read too slowly or on a
 * full disk, lines are dropped.
 */
export class Output {
  /** The current options; may be changed at any time. */
  options: OutputOptions;
  readonly #debugLog: DebugLog | null;
  readonly #hasPriorities = isJournal(process.env['JOURNAL_STREAM'], 2);
  readonly #paint = paintFor(process.stderr);
  #isGone = false;
  lostTotal = 0;
  #lostCount = 0;
  /** Number of lines lost to a full disk. */
  #unwrittenCount = 0;

  /** `debugLog` receives the events that the level excludes. */
  constructor(options: OutputOptions = DEFAULTS, debugLog: DebugLog | null = null) {
    this.options = options;
    this.#debugLog = debugLog;
    process.stderr.on('error', (error) => {
      this.#isGone ||= !FULL_CODES.has(systemCode(error));
    });
  }

  /** Logs an event, if its level is enabled. */
  log(event: LogEvent): void {
    const { format, level, hasDetails } = this.options;
    const isWanted = LOG_LEVELS.indexOf(event.level) <= LOG_LEVELS.indexOf(level);
    if (!isWanted && !this.#debugLog?.wants(event)) return;
    if (format === 'json') this.#write(event.level, formatJsonLine(event, new Date()));
    else if (isWanted) this.#write(event.level, formatTextLine(event, hasDetails, this.#paint));
    else if (this.#hasRoom()) this.#debugLog?.write(event);
  }

  /** Returns the length of an event's log line in bytes, whether or not its level is enabled. */
  lineBytes(event: LogEvent): number {
    const { format, hasDetails } = this.options;
    // Formatting the time would take longer than the rest.
    const line = format === 'json' ? formatJsonLine(event, EPOCH) : formatTextLine(event, hasDetails);
    const prefixBytes = this.#hasTime ? TIME_BYTES : this.#priority(event.level).length;
    return prefixBytes + Buffer.byteLength(line) + 1;
  }

  /** Logs why the command fails. */
  failure(reason: unknown): void {
    const { code, message } = toVproxyError(reason);
    if (code === 'internal') this.defect(reason);
    else this.log(makeEvent('failed', message, { code }));
  }

  /** Logs a defect of this program; with `-v`, also the stack. */
  defect(error: unknown): void {
    const message = `internal: ${escapeText(error instanceof Error ? error.message : String(error))}`;
    const stack = error instanceof Error ? sourceTrace(error.stack ?? '') : '';
    this.log(makeEvent('internal', message, { code: 'internal', stack }));
    if (this.options.format === 'text' && this.options.level === 'debug' && stack !== '') {
      for (const line of stack.split('\n')) this.#write('error', line);
    }
  }

  #write(level: LogLevel, text: string): void {
    if (!this.#hasRoom()) return;
    const line = `${this.#prefix(level)}${text}`;
    const count = this.#unwrittenCount;
    this.#unwrittenCount = 0;
    process.stderr.write(`${count === 0 ? '' : this.#formatUnwritten(count)}${line}\n`, (error) => {
      if (!FULL_CODES.has(systemCode(error))) return;
      this.#unwrittenCount += count + 1;
      this.lostTotal += 1;
    });
  }

  /** Formats a line about lost ones, after one that may have been written in part. */
  #formatUnwritten(count: number): string {
    const { format, hasDetails } = this.options;
    const message = `${formatCount(count, 'log line')} lost: no space left`;
    const event = makeEvent('log-lost', message, { count });
    const line = format === 'json' ? formatJsonLine(event, new Date()) : formatTextLine(event, hasDetails);
    return `\n${this.#prefix(event.level)}${line}\n`;
  }

  /** What a line begins with: its priority in the journal, else the time if it is text. */
  #prefix(level: LogLevel): string {
    return this.#hasTime ? `${formatLocalTime(new Date())} ` : this.#priority(level);
  }

  get #hasTime(): boolean {
    return !this.#hasPriorities && this.options.hasTimes && this.options.format === 'text';
  }

  #priority(level: LogLevel): string {
    return this.#hasPriorities ? PRIORITIES[level] : '';
  }

  /** Whether a line may be written; counts one that may not, to report it as soon as there is room. */
  #hasRoom(): boolean {
    if (this.#isGone) return false;
    if (process.stderr.writableLength >= MAX_UNWRITTEN_BYTES) {
      if (this.#lostCount === 0) process.stderr.once('drain', () => this.#tellLoss());
      this.#lostCount += 1;
      this.lostTotal += 1;
      return false;
    }
    return true;
  }

  #tellLoss(): void {
    const count = this.#lostCount;
    this.#lostCount = 0;
    const message = `${formatCount(count, 'log line')} lost: stderr was read too slowly`;
    this.log(makeEvent('log-lost', message, { count }));
  }
}

const PREFIXES: Readonly<Record<LogLevel, readonly [text: string, tone: Tone | null]>> = {
  error: ['error: ', 'bad'],
  warn: ['warning: ', 'doubtful'],
  info: ['', null],
  debug: ['debug: ', 'faint'],
};

/** Formats `vproxy: warning: MESSAGE`, without a newline; with `hasDetails`, followed by the event's fields. */
export function formatTextLine(
  { level, message, fields }: Omit<LogEvent, 'event'>,
  hasDetails: boolean,
  paint: Paint = paintNothing,
): string {
  const [prefix, tone] = PREFIXES[level];
  const line = `vproxy: ${paint(prefix, tone)}${message}`;
  if (!hasDetails) return line;
  const facts = Object.entries(fields).map(([key, value]) => `${key}=${escapeText(JSON.stringify(value))}`);
  return facts.length > 0 ? `${line} (${facts.join(' ')})` : line;
}

/** Formats one JSON object, without a newline: time (ISO 8601, UTC), level, event, message, fields. */
export function formatJsonLine({ level, event, message, fields }: LogEvent, time: Date): string {
  return formatLine({ time: time.toISOString(), level, event, message, fields });
}

/** The log of the `debug` package: `DEBUG=vproxy:*` shows the events that the log level excludes. */
export interface DebugLog {
  /** Whether the namespace of an event is enabled. */
  wants(event: LogEvent): boolean;
  /** Writes an event as the `debug` package does. */
  write(event: LogEvent): void;
}

/** Opens the log for the value of `DEBUG`; null, without loading the package, if it is empty. */
export async function openDebugLog(namespaces: string | undefined): Promise<DebugLog | null> {
  if (!namespaces) return null;
  const { default: createDebug } = await import('debug');
  const debuggers = new Map<string, ReturnType<typeof createDebug>>();
  const debuggerOf = (event: LogEvent) => {
    const namespace = `vproxy:${subjectOf(event)}`;
    const known = debuggers.get(namespace) ?? createDebug(namespace);
    debuggers.set(namespace, known);
    return known;
  };
  return {
    wants: (event) => debuggerOf(event).enabled,
    write: (event) => debuggerOf(event)('%s', event.message),
  };
}

/** Opens the audit log of the process, and creates the file if missing. Throws `cannot-create`. */
export function openAuditLog({ path, rotation }: AuditPlace, log: Log): AuditLog {
  const audit = new AuditLog({ path, rotation, clock: systemClock, log });
  try {
    audit.open();
    return audit;
  } catch (cause) {
    throw new VproxyError('cannot-create', `--audit ${escapeText(path)}: ${describeError(cause)}`, { cause });
  }
}
