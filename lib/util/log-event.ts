/** What a running program tells people: one event per line, with its facts as fields. */

export type LogLevel = 'error' | 'warn' | 'info' | 'debug';

export interface LogEvent {
  readonly level: LogLevel;
  /** What happened, as a stable name: `listening`, `ended`, … */
  readonly event: string;
  /** One line for people. Foreign text in it is escaped. */
  readonly message: string;
  /** The same facts for programs. */
  readonly fields: Readonly<Record<string, string | number | boolean | null | readonly string[]>>;
}

/** Takes log events. */
export type Log = (event: LogEvent) => void;
