/** What running processes use, from /proc. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { ProcessUsage } from '../processes/children.js';
import { listPids, readOf, statOf } from './proc.js';

/** Fields of `stat` behind the name: the session; user and system time, and those of the children that it waited for. */
const SESSION = 3;
const TIMES = { first: 11, end: 15 } as const;

/** The unit of these times: USER_HZ is 100 on all architectures of Node (proc_pid_stat(5)). */
const TICK_MS = 10;

/** Processes read per turn. */
const LOOKS_IN_A_TURN = 64;

/** A look that has not begun, for all who have asked since the last one began. */
interface NextLook {
  readonly sessions: Set<number>;
  readonly used: Promise<ReadonlyMap<number, ProcessUsage>>;
}

let nextLook: NextLook | null = null;
let lastLook: Promise<unknown> = Promise.resolve();

/**
 * What the processes of each of these sessions have used, with those that they waited for; a session without processes is
 * missing. The processes are read in turns, one look after another: each serves all who asked before it began.
 */
export function usageOfSessions(
  sessions: ReadonlySet<number>,
  proc = '/proc',
): Promise<ReadonlyMap<number, ProcessUsage>> {
  if (sessions.size === 0) return Promise.resolve(new Map());
  if (nextLook === null) {
    const wanted = new Set<number>();
    const used = lastLook.then(() => {
      nextLook = null;
      return lookAt(wanted, proc);
    });
    lastLook = used.catch(() => undefined);
    nextLook = { sessions: wanted, used };
  }
  for (const session of sessions) nextLook.sessions.add(session);
  return nextLook.used;
}

async function lookAt(sessions: ReadonlySet<number>, proc: string): Promise<ReadonlyMap<number, ProcessUsage>> {
  const used = new Map<number, ProcessUsage>();
  for (const [index, pid] of listPids(proc).entries()) {
    if (index % LOOKS_IN_A_TURN === LOOKS_IN_A_TURN - 1) await nextTurn();
    const stat = statOf(proc, pid);
    const session = Number(stat[SESSION]);
    if (!sessions.has(session)) continue;
    const before = used.get(session) ?? { cpuMs: 0, peakBytes: 0 };
    const ticks = stat.slice(TIMES.first, TIMES.end).reduce((sum, time) => sum + Number(time), 0);
    const peakKib = Number(/^VmHWM:\s*(\d+)/m.exec(readOf(proc, pid, 'status'))?.[1] ?? 0);
    // Zombies have no memory.
    const peakBytes = Math.max(before.peakBytes ?? 0, peakKib * 1024) || null;
    used.set(session, { cpuMs: before.cpuMs + ticks * TICK_MS, peakBytes });
  }
  return used;
}
