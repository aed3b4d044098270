/** The audit log: who opened what, whether it was let in, and what was called, as lines of JSON in a file. */
import { LogFile, type Rotation } from '../system/log-file.js';
import type { Clock } from '../util/clock.js';
import { formatJsonLine } from '../util/escape.js';
import type { Log, LogEvent, LogEventName } from '../util/log-event.js';
import { wasLetHappen } from './log-limit.js';

/** The events that are written. */
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

/** The same for lines of what was refused, so that those of what was let happen have room behind them. */
const MAX_REFUSED_BYTES = MAX_WAITING_BYTES / 2;

/** What a line takes besides its text while it waits, in bytes. */
const LINE_OVERHEAD_BYTES = 256;

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
  record(event: LogEvent): void {
    if (this.#waitingBytes >= (wasLetHappen(event) ? MAX_WAITING_BYTES : MAX_REFUSED_BYTES)) {
      this.#lostCount += 1;
      return;
    }
    if (this.#lostCount > 0 && this.#waitingBytes < MAX_REFUSED_BYTES) this.#tellLoss();
    this.#append(event);
  }

  /** Goes on in the file that is at the path by then: for who renames it. */
  reopen(): void {
    this.#file.reopen();
  }

  /** Writes what waits, unless that fails, and closes the file. */
  close(): Promise<void> {
    return this.#file.close();
  }

  #tellLoss(): void {
    const count = this.#lostCount;
    this.#lostCount = 0;
    const message = `${count} lines of the audit log are lost: they could not be written`;
    this.#append({ level: 'warn', event: 'audit-lost', message, fields: { count } });
    this.#tell('warn', 'audit-lost', message);
  }

  #append({ event, message, fields }: LogEvent): void {
    const line = formatJsonLine({ ...fields, time: new Date().toISOString(), event, message });
    const bytes = Buffer.from(`${line}\n`);
    const heldBytes = bytes.length + LINE_OVERHEAD_BYTES;
    this.#waitingBytes += heldBytes;
    this.#file.append(bytes, () => {
      this.#waitingBytes -= heldBytes;
    });
  }

  #tell(level: LogEvent['level'], event: LogEventName, message: string): void {
    this.#log({ level, event, message, fields: {} });
  }
}
