/** The audit log: who opened what, whether it was let in, and what was called, as lines of JSON in a file. */

import { type EventRate, type Log, type LogEvent, makeEvent, rateOf } from '../events.js';
import { LogFile, type Rotation } from '../system/files/log-file.js';
import type { Clock } from '../util/clock.js';
import { formatJsonLine } from '../util/escape.js';

/**
 * While this much waits for a disk that takes nothing, in bytes, further lines are counted and not kept. Those of what was
 * let happen have room behind those of what was refused.
 */
const MAX_WAITING_BYTES: Readonly<Record<EventRate, number>> = {
  'let-happen': 16 * 2 ** 20,
  session: 16 * 2 ** 20,
  'session-end': 8 * 2 ** 20,
  refused: 8 * 2 ** 20,
};

/** What a line takes besides its text while it waits, in bytes. */
const LINE_OVERHEAD_BYTES = 256;

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
        log(makeEvent('audit-failed', `cannot write the audit log ${path}: ${why}; it is tried again`, {})),
      onRecovered: () => log(makeEvent('audit-recovered', `the audit log ${path} can be written again`, {})),
    });
  }

  /** Opens the file. Throws errors of the system. */
  open(): void {
    this.#file.open();
  }

  /** Writes an event: its facts, and `time`, `event` and `message`, which no fact can replace. What a peer said is in texts of JSON only. */
  record(event: LogEvent): void {
    if (this.#waitingBytes >= MAX_WAITING_BYTES[rateOf(event)]) {
      this.#lostCount += 1;
      return;
    }
    if (this.#lostCount > 0 && this.#waitingBytes < MAX_WAITING_BYTES.refused) this.#tellLoss();
    this.#append(event);
  }

  /** Whether lines wait to be written. */
  get isWriting(): boolean {
    return this.#waitingBytes > 0;
  }

  /** Goes on in the file that is at the path by then: logrotate(8) may have renamed the one before. */
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
    });
  }
}
