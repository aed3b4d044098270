/** The audit log: who opened what, whether it was let in, and what was called, as lines of JSON in a file. */
import { LogFile, type Rotation } from '../forward/log-file.js';
import type { Clock } from '../util/clock.js';
import { formatJsonLine } from '../util/json-line.js';
import type { Log, LogEvent, LogEventName } from '../util/log-event.js';

/** The events that are written; none of them is ever left out for coming too often. */
const AUDITED: ReadonlySet<string> = new Set([
  'session-established',
  'session-ended',
  'stream-opened',
  'stream-closed',
  'stream-reset',
  'stream-refused',
  'stream-denied',
  'storage-call',
  'exec-started',
  'exec-ended',
  'exec-refused',
  'copy-started',
  'copy-ended',
  'copy-refused',
]);

/** While so much waits for a disk that takes nothing, further lines are counted and not kept, in bytes. */
const MAX_WAITING_BYTES = 16 * 2 ** 20;

/** Whether an event belongs into an audit log. */
export const isAudited = ({ event }: LogEvent): boolean => AUDITED.has(event);

export interface AuditLogOptions {
  readonly path: string;
  /** Null: it is never rotated. */
  readonly rotation: Rotation | null;
  readonly clock: Clock;
  /** Told when writing fails, works again, or lost lines. */
  readonly log: Log;
}

/** One file. It is appended to, and on the disk before it is rotated or closed. */
export class AuditLog {
  readonly #file: LogFile;
  readonly #log: Log;
  #waitingBytes = 0;
  #lostCount = 0;

  constructor({ path, rotation, clock, log }: AuditLogOptions) {
    this.#log = log;
    this.#file = new LogFile({
      path,
      rotation,
      clock,
      mode: 0o600,
      isSynced: true,
      onFailing: (why) =>
        this.#tell('warn', 'audit-failed', `cannot write the audit log ${path}: ${why}; it is tried again`),
      onRecovered: () => this.#tell('info', 'audit-recovered', `the audit log ${path} can be written again`),
    });
  }

  /** Opens the file. Throws errors of the system. */
  open(): void {
    this.#file.open();
  }

  /** Writes an event: its facts, and `time`, `event` and `message`, which no fact can replace. What a peer said stands in texts of JSON only. */
  record({ event, message, fields }: LogEvent): void {
    const lines = [formatJsonLine({ ...fields, time: new Date().toISOString(), event, message })];
    if (this.#waitingBytes >= MAX_WAITING_BYTES) {
      this.#lostCount += 1;
      return;
    }
    if (this.#lostCount > 0) {
      const lost = `${this.#lostCount} lines of the audit log are lost: they could not be written`;
      lines.unshift(
        formatJsonLine({ time: new Date().toISOString(), event: 'audit-lost', message: lost, count: this.#lostCount }),
      );
      this.#tell('warn', 'audit-lost', lost);
      this.#lostCount = 0;
    }
    const bytes = Buffer.from(`${lines.join('\n')}\n`);
    this.#waitingBytes += bytes.length;
    this.#file.append(bytes, () => {
      this.#waitingBytes -= bytes.length;
    });
  }

  /** Goes on in the file that is at the path by then: for who renames it. */
  reopen(): void {
    this.#file.reopen();
  }

  /** Writes what waits, unless that fails, and closes the file. */
  close(): Promise<void> {
    return this.#file.close();
  }

  #tell(level: LogEvent['level'], event: LogEventName, message: string): void {
    this.#log({ level, event, message, fields: {} });
  }
}
