/** What a running program tells people: one event per line, with its facts as fields. */
import { formatJsonLine } from './escape.js';

/** How much an event matters, the most important level first. */
export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

/** The names of all events: what each means, and what to do about it, is in docs/troubleshooting.md. */
export const LOG_EVENTS = [
  'accept-failed',
  'audit-failed',
  'audit-lost',
  'audit-recovered',
  'channel-closed',
  'channel-crowded',
  'channel-echo',
  'channel-failed',
  'channel-listening',
  'channel-waiting',
  'control-listening',
  'control-off',
  'copy',
  'copy-ended',
  'copy-refused',
  'copy-started',
  'draining',
  'ended',
  'events-lost',
  'exec-ended',
  'exec-missing',
  'exec-refused',
  'exec-started',
  'failed',
  'group-added',
  'group-failed',
  'group-removed',
  'group-skipped',
  'group-unwatched',
  'group-waiting',
  'internal',
  'listening',
  'log-limited',
  'log-lost',
  'metrics-listening',
  'notify-failed',
  'notify-recovered',
  'open-port',
  'reload-failed',
  'reload-incomplete',
  'reloaded',
  'service-failed',
  'services',
  'session-ended',
  'session-established',
  'storage-call',
  'storage-emulator',
  'storage-off',
  'stream-closed',
  'stream-denied',
  'stream-opened',
  'stream-refused',
  'stream-reset',
  'target-failed',
  'target-recovered',
  'target-stderr',
] as const;

/** One of `LOG_EVENTS`. */
export type LogEventName = (typeof LOG_EVENTS)[number];

/** Something that happened. */
export interface LogEvent {
  /** How much it matters. */
  readonly level: LogLevel;
  /** What happened, as a stable name. */
  readonly event: LogEventName;
  /** One line for people. Foreign text in it is escaped. */
  readonly message: string;
  /** The same facts for programs. */
  readonly fields: Readonly<Record<string, string | number | boolean | null | readonly string[]>>;
}

/** Takes log events. */
export type Log = (event: LogEvent) => void;

/** The longest message, in bytes as JSON, and how much of its end is kept: the code of an error is there. */
const MAX_MESSAGE_BYTES = 512;
const MESSAGE_END_LENGTH = 96;

/** No character takes more bytes in JSON than one that is escaped: `\uXXXX`. */
const MAX_CHARACTER_BYTES = 6;

type Field = LogEvent['fields'][string];

/**
 * An event with its texts cut, whoever they are from, so that all of its fields together have at most `maxFieldsBytes` as
 * JSON: where something is missing there is an ellipsis, and at the end of a list the number of what is. The longest texts
 * are cut first: a code behind them stays whole.
 */
export function boundEvent(event: LogEvent, maxFieldsBytes: number): LogEvent {
  const entries = Object.entries(event.fields);
  const length = entries.reduce((sum, [, value]) => sum + textLength(value), 0);
  if (isSurelyWithin(length, maxFieldsBytes) && isSurelyWithin(event.message.length, MAX_MESSAGE_BYTES)) return event;
  let roomBytes = maxFieldsBytes;
  const cut = (text: string): string => {
    const kept = cutText(text, roomBytes);
    // With its comma.
    roomBytes -= jsonBytes(kept) + 1;
    return kept;
  };
  const cutList = (texts: readonly string[]): readonly string[] => {
    const kept: string[] = [];
    for (const text of texts) {
      if (roomBytes <= 0) return [...kept, `… ${texts.length - kept.length} more`];
      kept.push(cut(text));
    }
    return kept;
  };
  // The keys stay in their order.
  const fields: Record<string, Field> = { ...event.fields };
  for (const [key, value] of entries.toSorted(([, one], [, other]) => textLength(one) - textLength(other))) {
    if (typeof value === 'string') fields[key] = cut(value);
    else if (value !== null && typeof value === 'object') fields[key] = cutList(value);
  }
  return { ...event, message: cutMessage(event.message), fields };
}

/** The number of characters of a field's texts, with two for the comma and the quotes of each. */
function textLength(value: Field): number {
  if (typeof value === 'string') return value.length + 2;
  if (value === null || typeof value !== 'object') return 0;
  return value.reduce((sum, text) => sum + text.length + 2, 0);
}

/** Whether a text of so many characters has room whatever they are. */
const isSurelyWithin = (length: number, maxBytes: number): boolean => length * MAX_CHARACTER_BYTES <= maxBytes;

function cutMessage(message: string): string {
  if (jsonBytes(message) <= MAX_MESSAGE_BYTES) return message;
  const end = message.slice(-MESSAGE_END_LENGTH);
  return `${cutText(message, MAX_MESSAGE_BYTES - jsonBytes(end))}${end}`;
}

function cutText(text: string, maxBytes: number): string {
  // No character takes less than a byte, so what is longer need not be looked at.
  let kept = text.slice(0, Math.max(0, maxBytes));
  while (jsonBytes(kept) > maxBytes && kept !== '') kept = kept.slice(0, Math.floor(kept.length * 0.75));
  return kept.length === text.length ? text : `${kept}…`;
}

const jsonBytes = (value: unknown): number => Buffer.byteLength(formatJsonLine(value));
