/** The limit of open files beside the streams that channels may have. */
import { type Finding, finding } from '../finding.js';
import type { Machine } from '../machine.js';

/** Channels of one process. */
export interface FilesSubject {
  /** The process; null for one that would be started from here. */
  readonly pid: number | null;
  /** How many streams each of its channels may have. */
  readonly streams: readonly number[];
}

/** Besides streams a process has listeners, channels, a log. */
const OTHER_FILES = 64;

/** A warning where streams would be refused although the channels allow them. */
export function checkFiles(machine: Machine, { pid, streams }: FilesSubject): Finding[] {
  const limits = machine.readProc(`${pid ?? 'self'}/limits`);
  const limit = Number(/^Max open files +(\d+)/m.exec(limits)?.[1] ?? Number.POSITIVE_INFINITY);
  const wanted = streams.reduce((sum, count) => sum + count, OTHER_FILES);
  if (wanted <= limit) return [];
  return [
    finding(
      'files-low',
      `${limit} files may be open, and ${streams.length} channels may have ${wanted - OTHER_FILES} streams`,
      `LimitNOFILE=${wanted} in the unit, or ulimit -n ${wanted}`,
    ),
  ];
}
