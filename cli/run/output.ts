/** The log of a command, on stderr. */

import { systemCode, toVproxyError, VproxyError } from '../../lib/errors.js';
import { LOG_LEVELS, type Log, type LogEvent, type LogLevel, makeEvent, subjectOf } from '../../lib/events.js';
import { AuditLog } from '../../lib/proxy/audit-log.js';
import type { AuditPlace, LogFormat } from '../../lib/settings/process-settings.js';
import { systemClock } from '../../lib/util/clock.js';
import { describeError, escapeText, formatJsonLine as formatLine } from '../../lib/util/escape.js';
import { isJournal, journalPriority } from '../service/service-manager.js';
import { type Paint, paintFor, paintNothing, type Tone } from '../ui/color.js';
import { sourceTrace } from './trace.js';

/** What is logged, and how. */
export interface OutputOptions {
  readonly format: LogFormat;
  /** The least important level that is logged. */
  readonly level: LogLevel;
  /** Whether lines show the fields of their events, and failures the stack. */
  readonly hasDetails: boolean;
}

const DEFAULTS: OutputOptions = { format: 'text', level: 'info', hasDetails: false };

/** While this much waits for the reader of stderr, in bytes, further lines are left out. */
const MAX_UNWRITTEN_BYTES = 2 ** 20;

/** What the system says of a file that has no room for more: it may have some again. */
const FULL_CODES: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);

/**
 * Writes log events to stderr, to the journal of systemd with their priorities. When nobody reads that any more, or not fast enough, or its disk is full, it
 * goes on without.
 */
export class Output {
  /** What is in force; may be changed at any time. */
  options: OutputOptions;
  readonly #debugLog: DebugLog | null;
  readonly #hasPriorities = isJournal(process.env['JOURNAL_STREAM'], 2);
  readonly #paint = paintFor(process.stderr);
  #isGone = false;
  #lostCount = 0;
  /** Lines that found the disk full. */
  #unwrittenCount = 0;

  /** `debugLog` takes the events that the level leaves out. */
  constructor(options: OutputOptions = DEFAULTS, debugLog: DebugLog | null = null) {
    this.options = options;
    this.#debugLog = debugLog;
    process.stderr.on('error', (error) => {
      this.#isGone ||= !FULL_CODES.has(systemCode(error));
    });
  }

  /** Logs an event, if its level is wanted. */
  log(event: LogEvent): void {
    const { format, level, hasDetails } = this.options;
    const isWanted = LOG_LEVELS.indexOf(event.level) <= LOG_LEVELS.indexOf(level);
    if (!isWanted && !this.#debugLog?.wants(event)) return;
    if (format === 'json') this.#write(event.level, formatJsonLine(event, new Date()));
    else if (isWanted) this.#write(event.level, formatTextLine(event, hasDetails, this.#paint));
    else if (this.#hasRoom()) this.#debugLog?.write(event);
  }

  /** How many bytes a line of the log has for an event, whether its level is wanted or not. */
  lineBytes(event: LogEvent): number {
    const { format, hasDetails } = this.options;
    const line = format === 'json' ? formatJsonLine(event, new Date()) : formatTextLine(event, hasDetails);
    return Buffer.byteLength(line) + this.#priority(event.level).length + 1;
  }

  /** Logs why the command fails. */
  failure(reason: unknown): void {
    const { code, message } = toVproxyError(reason);
    if (code === 'internal') this.defect(reason);
    else this.log(makeEvent('failed', message, { code }));
  }

  /** Logs a defect of this program; with `-v` where it happened. */
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
    const line = `${this.#priority(level)}${text}`;
    const count = this.#unwrittenCount;
    this.#unwrittenCount = 0;
    process.stderr.write(`${count === 0 ? '' : this.#formatUnwritten(count)}${line}\n`, (error) => {
      if (FULL_CODES.has(systemCode(error))) this.#unwrittenCount += count + 1;
    });
  }

  /** A line about others, behind one that may have been written in part. */
  #formatUnwritten(count: number): string {
    const { format, hasDetails } = this.options;
    const message = `${count} lines of this log are lost: there was no room for them`;
    const event = makeEvent('log-lost', message, { count });
    const line = format === 'json' ? formatJsonLine(event, new Date()) : formatTextLine(event, hasDetails);
    return `\n${this.#priority(event.level)}${line}\n`;
  }

  #priority(level: LogLevel): string {
    return this.#hasPriorities ? journalPriority(level) : '';
  }

  /** Whether a line may be written; one that may not is counted, and told of as soon as there is room. */
  #hasRoom(): boolean {
    if (this.#isGone) return false;
    if (process.stderr.writableLength >= MAX_UNWRITTEN_BYTES) {
      if (this.#lostCount === 0) process.stderr.once('drain', () => this.#tellLoss());
      this.#lostCount += 1;
      return false;
    }
    return true;
  }

  #tellLoss(): void {
    const count = this.#lostCount;
    this.#lostCount = 0;
    const message = `${count} lines of this log are lost: they were not read fast enough`;
    this.log(makeEvent('log-lost', message, { count }));
  }
}

const PREFIXES: Readonly<Record<LogLevel, readonly [text: string, tone: Tone | null]>> = {
  error: ['error: ', 'bad'],
  warn: ['warning: ', 'doubtful'],
  info: ['', null],
  debug: ['debug: ', 'faint'],
};

/** `vproxy: warning: MESSAGE`, without a newline; with `hasDetails` the event's fields behind it. */
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

/** One JSON object, without a newline: time (ISO 8601, UTC), level, event, message, fields. */
export function formatJsonLine({ level, event, message, fields }: LogEvent, time: Date): string {
  return formatLine({ time: time.toISOString(), level, event, message, fields });
}

/** The log of the `debug` package: `DEBUG=vproxy:*` shows the events that the log's level leaves out. */
export interface DebugLog {
  /** Whether the namespace of an event is enabled. */
  wants(event: LogEvent): boolean;
  /** Writes an event as the `debug` package does. */
  write(event: LogEvent): void;
}

/** The log for the value of `DEBUG`; null where that is empty, and the package is not even loaded. */
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

/** Opens the audit log of the process, and makes the file if it is missing. Throws `cannot-create`. */
export function openAuditLog({ path, rotation }: AuditPlace, log: Log): AuditLog {
  const audit = new AuditLog({ path, rotation, clock: systemClock, log });
  try {
    audit.open();
    return audit;
  } catch (cause) {
    throw new VproxyError('cannot-create', `--audit ${escapeText(path)}: ${describeError(cause)}`, { cause });
  }
}
