/** Whether a log goes to the journal, and the priorities that it takes there: sd-daemon(3). */
import { fstatSync } from 'node:fs';
import type { LogLevel } from '../../lib/util/log-event.js';

const PRIORITIES: Readonly<Record<LogLevel, string>> = { error: '<3>', warn: '<4>', info: '<6>', debug: '<7>' };

/** What stands before a line of this level in the journal, which takes it off again. */
export function journalPriority(level: LogLevel): string {
  return PRIORITIES[level];
}

/** Whether a descriptor is the stream that `$JOURNAL_STREAM` (device and inode) names. */
export function isJournal(stream: string | undefined, fd: number): boolean {
  if (!stream) return false;
  try {
    const { dev, ino } = fstatSync(fd, { bigint: true });
    return stream === `${dev}:${ino}`;
  } catch {
    return false;
  }
}
