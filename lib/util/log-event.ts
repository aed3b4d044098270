/** What a running program tells people: one event per line, with its facts as fields. */

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
