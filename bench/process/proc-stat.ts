/** The line of /proc/PID/stat. */

/** What is used of it. */
export interface ProcStat {
  readonly pid: number;
  readonly parentPid: number;
  /** CPU time of the process and of its children that have ended and been waited for, in seconds. */
  readonly cpuSeconds: number;
}

/** The unit of CPU times in /proc: USER_HZ, which is 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** Parses the line. The second field is the program's name in parentheses, and may contain anything. */
export function parseProcStat(text: string): ProcStat {
  const nameEnd = text.lastIndexOf(')');
  const fields = text.slice(nameEnd + 2).split(' ');
  // Counted from the third field, the state: utime, stime, cutime and cstime are the fields 14 to 17.
  const ticks = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return { pid: Number.parseInt(text, 10), parentPid: Number(fields[1]), cpuSeconds: ticks / TICKS_PER_SECOND };
}
