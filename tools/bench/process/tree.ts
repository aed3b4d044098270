/** CPU time and memory of processes with all their descendants. */
import { readdirSync, readFileSync } from 'node:fs';
import { type ProcStat, parseProcStat } from './proc-stat.js';

/** Lists the processes with these ids and all their descendants, as far as they exist. */
export function listTree(roots: readonly number[]): ProcStat[] {
  const children = new Map<number, ProcStat[]>();
  const byPid = new Map<number, ProcStat>();
  for (const stat of listProcesses()) {
    byPid.set(stat.pid, stat);
    const siblings = children.get(stat.parentPid);
    if (siblings === undefined) children.set(stat.parentPid, [stat]);
    else siblings.push(stat);
  }
  const found = roots.flatMap((pid) => byPid.get(pid) ?? []);
  // The list grows while it is walked.
  for (const { pid } of found) found.push(...(children.get(pid) ?? []));
  return found;
}

/** CPU time that processes and all their descendants have taken so far, in seconds. */
export function cpuSecondsOf(roots: readonly number[]): number {
  if (roots.length === 0) return 0;
  return listTree(roots).reduce((sum, stat) => sum + ownSeconds(stat) + stat.reapedSeconds, 0);
}

/** A process's own time. /proc/PID/stat counts in steps of 10 ms, which many short processes never reach. */
function ownSeconds({ pid, ownSeconds: inTicks }: ProcStat): number {
  try {
    const tasks = readdirSync(`/proc/${pid}/task`);
    const nanoseconds = tasks.map((task) =>
      Number.parseInt(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8'), 10),
    );
    // Threads that have ended are counted only there; without schedstat, all are.
    return Math.max(inTicks, nanoseconds.reduce((sum, one) => sum + one, 0) / 1e9);
  } catch {
    return inTicks;
  }
}

/** Memory of a process and all its descendants; shared pages count for each. */
export interface TreeMemory {
  readonly residentBytes: number;
  /** Pages that no other process has. */
  readonly privateBytes: number;
}

/** The memory of processes and all their descendants. */
export function memoryOf(roots: readonly number[]): TreeMemory {
  const pids = listTree(roots).map(({ pid }) => pid);
  const sum = (name: string): number =>
    pids.reduce((bytes, pid) => bytes + (readKilobytes(`/proc/${pid}/smaps_rollup`, name) ?? 0), 0);
  return { residentBytes: sum('Rss'), privateBytes: sum('Private_Clean') + sum('Private_Dirty') };
}

/**
 * Resident memory of processes and all their descendants, in bytes. A page that several processes share counts for each
 * of them in part, so that forked children do not count the same pages again.
 */
export function residentBytesOf(roots: readonly number[]): number {
  return listTree(roots).reduce((sum, { pid }) => sum + residentBytes(pid), 0);
}

function residentBytes(pid: number): number {
  return readKilobytes(`/proc/${pid}/smaps_rollup`, 'Pss') ?? readKilobytes(`/proc/${pid}/status`, 'VmRSS') ?? 0;
}

function readKilobytes(path: string, name: string): number | undefined {
  try {
    const kilobytes = new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(readFileSync(path, 'utf8'))?.[1];
    return kilobytes === undefined ? undefined : Number(kilobytes) * 1024;
  } catch {
    return undefined;
  }
}

function listProcesses(): ProcStat[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((pid) => {
      try {
        return [parseProcStat(readFileSync(`/proc/${pid}/stat`, 'utf8'))];
      } catch {
        // It has just exited.
        return [];
      }
    });
}
