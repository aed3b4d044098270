/** The audit log: who opened what, whether it was allowed, and what was called, as lines of JSON in a file. */

import { type EventRate, type Log, type LogEvent, makeEvent, rateOf } from '../events.js';
import { LogFile, type LogFileOptions } from '../system/files/log-file.js';
import { type Clock, settledWithin } from '../util/clock.js';
import { formatJsonLine } from '../util/escape.js';
import { formatCount } from '../util/units.js';

/**
 * Limits on lines that wait for a stuck disk, in bytes: further lines are counted and dropped. Permitted actions keep room
 * when refusals have used up theirs.
 */
const MAX_WAITING_BYTES: Readonly<Record<EventRate, number>> = {
  'let-happen': 16 * 2 ** 20,
  session: 16 * 2 ** 20,
  'session-end': 8 * 2 ** 20,
  refused: 8 * 2 ** 20,
};

const LINE_OVERHEAD_BYTES = 256;

/** At the end, waiting lines are given up when the disk has taken none for this long, in milliseconds. */
const PATIENCE_MS = 500;

export interface AuditLogOptions extends Pick<LogFileOptions, 'path' | 'rotation' | 'clock'> {
  /** Receives events when writing fails, recovers, or has lost lines. */
  readonly log: Log;
}

/** One file: appended to, and synced to disk before it is rotated or closed. */
export class AuditLog {
  readonly #file: LogFile;
  readonly #log: Log;
  readonly #clock: Clock;
  #waitingBytes = 0;
  #writtenCount = 0;
  #lostCount = 0;
  lostTotal = 0;

  constructor({ path, rotation, clock, log }: AuditLogOptions) {
    this.#log = log;
    this.#clock = clock;
    this.#file = new LogFile({
      path,
      rotation,
      clock,
      mode: 0o600,
      isSynced: true,
      onFailing: (why) => log(makeEvent('audit-failed', `cannot write the audit log ${path}: ${why}; retrying`, {})),
      onRecovered: () => log(makeEvent('audit-recovered', `audit log ${path} is writable again`, {})),
    });
  }

  /** Opens the file. Throws system errors. */
  open(): void {
    this.#file.open();
  }

  /** Writes an event: its fields, and `time`, `event` and `message`, which no field can replace. A peer's text is quoted. */
  record(event: LogEvent): void {
    if (this.#waitingBytes >= MAX_WAITING_BYTES[rateOf(event)]) {
      this.#lostCount += 1;
      this.lostTotal += 1;
      return;
    }
    if (this.#lostCount > 0 && this.#waitingBytes < MAX_WAITING_BYTES.refused) this.#tellLoss();
    this.#append(event);
  }

  /** Whether lines wait to be written. */
  get isWriting(): boolean {
    return this.#waitingBytes > 0;
  }

  /** Continues in the file that is now at the path: logrotate(8) may have renamed the old one. */
  reopen(): void {
    this.#file.reopen();
  }

  /** Writes the waiting lines, unless that fails or the disk is stuck, and closes the file. A busy machine only takes longer. */
  async close(): Promise<void> {
    const closed = this.#file.close();
    let writtenCount: number;
    do {
      writtenCount = this.#writtenCount;
      await settledWithin(this.#clock, PATIENCE_MS, closed);
    } while (this.isWriting && this.#writtenCount > writtenCount);
  }

  #tellLoss(): void {
    const count = this.#lostCount;
    this.#lostCount = 0;
    const message = `${formatCount(count, 'audit log line')} lost: the file could not be written`;
    this.#append(makeEvent('audit-lost', message, { count }));
    this.#log(makeEvent('audit-lost', message, {}));
  }

  #append({ event, message, fields }: LogEvent): void {
    const line = formatJsonLine({ ...fields, time: new Date().toISOString(), event, message });
    const bytes = Buffer.from(`${line}\n`);
    const heldBytes = bytes.length + LINE_OVERHEAD_BYTES;
    this.#waitingBytes += heldBytes;
    this.#file.append(bytes, () => {
      this.#waitingBytes -= heldBytes;
      this.#writtenCount += 1;
    });
  }
}
