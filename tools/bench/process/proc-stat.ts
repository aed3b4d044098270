/** The line of /proc/PID/stat. */

/** The fields that are used. */
export interface ProcStat {
  readonly pid: number;
  readonly parentPid: number;
  /** CPU time of the process itself, in seconds. */
  readonly ownSeconds: number;
  /** CPU time of its children that have ended and been waited for, in seconds. */
  readonly reapedSeconds: number;
}

/** The unit of CPU times in /proc: USER_HZ, which is 100 on every architecture that Node runs on. */
const TICKS_PER_SECOND = 100;

/** Parses the line. The second field is the program's name in parentheses, and may contain anything. */
export function parseProcStat(text: string): ProcStat {
  const nameEnd = text.lastIndexOf(')');
  const fields = text.slice(nameEnd + 2).split(' ');
  // Counted from the third field, the state: utime, stime, cutime and cstime are the fields 14 to 17.
  const [user = 0, system = 0, reapedUser = 0, reapedSystem = 0] = fields.slice(11, 15).map(Number);
  return {
    pid: Number.parseInt(text, 10),
    parentPid: Number(fields[1]),
    ownSeconds: (user + system) / TICKS_PER_SECOND,
    reapedSeconds: (reapedUser + reapedSystem) / TICKS_PER_SECOND,
  };
}
