/** A log event as a line: for people, or as JSON for programs. */
import { escapeText } from '../lib/util/escape.js';
import { formatJsonLine as formatLine } from '../lib/util/json-line.js';
import type { LogEvent, LogLevel } from '../lib/util/log-event.js';

const PREFIXES: Readonly<Record<LogLevel, string>> = {
  error: 'error: ',
  warn: 'warning: ',
  info: '',
  debug: 'debug: ',
};

/** `vproxy: warning: MESSAGE`, without a newline; with `hasDetails` the event's fields behind it. */
export function formatTextLine({ level, message, fields }: Omit<LogEvent, 'event'>, hasDetails: boolean): string {
  const facts = Object.entries(fields).map(([key, value]) => `${key}=${escapeText(JSON.stringify(value))}`);
  const details = hasDetails && facts.length > 0 ? ` (${facts.join(' ')})` : '';
  return `vproxy: ${PREFIXES[level]}${message}${details}`;
}

/** One JSON object, without a newline: time (ISO 8601, UTC), level, event, message, fields. */
export function formatJsonLine({ level, event, message, fields }: LogEvent, time: Date): string {
  return formatLine({ time: time.toISOString(), level, event, message, fields });
}
