/** The processes of this machine, from Linux's /proc; those that this user may not see, or that have exited, are missing. */
import { promises as fs } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { systemCode } from '../../errors.js';
import { linkTarget, listFolder, readText } from '../files/optional-files.js';

/** The numbers of all processes, sorted. */
export function listPids(proc: string): number[] {
  const names = listFolder(proc) ?? [];
  return names.flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : [])).sort((one, other) => one - other);
}

/** Whether a process with this PID exists, of any user. */
export function processExists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return systemCode(error) !== 'ESRCH';
  }
}

/** The text of a process's file, such as `status` or `cgroup`; empty if it cannot be read. */
export function readOf(proc: string, pid: number, file: string): string {
  return readText(`${proc}/${pid}/${file}`);
}

/** The name of a process, cut to 15 bytes by the kernel; empty if it cannot be read. */
export function programOf(proc: string, pid: number): string {
  return readOf(proc, pid, 'comm').trimEnd();
}

/** The arguments of its command line. */
export function wordsOf(proc: string, pid: number): string[] {
  return readOf(proc, pid, 'cmdline').split('\0').slice(0, -1);
}

/** The fields of its `stat` from the third on, the state; the second, the name in parentheses, may contain any character. */
export function statOf(proc: string, pid: number): string[] {
  const text = readOf(proc, pid, 'stat');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Descriptors read per turn. */
const LOOKS_IN_A_TURN = 64;

/** The targets of a process's descriptors: paths, or names such as `socket:[4711]`. Stops when `isOver`. */
export async function* openFiles(proc: string, pid: number, isOver: () => boolean): AsyncGenerator<string> {
  const folder = `${proc}/${pid}/fd`;
  const descriptors = await fs.readdir(folder).catch(() => []);
  for (const [index, descriptor] of descriptors.entries()) {
    if (isOver()) return;
    if (index % LOOKS_IN_A_TURN === LOOKS_IN_A_TURN - 1) await nextTurn();
    yield linkTarget(`${folder}/${descriptor}`) ?? '';
  }
}

/** The first of `pids` that has one of these open; null if none is found before `isOver`. */
export async function findHolder(
  proc: string,
  pids: Iterable<number>,
  names: ReadonlySet<string>,
  isOver: () => boolean,
): Promise<number | null> {
  for (const pid of pids) {
    if (isOver()) return null;
    for await (const name of openFiles(proc, pid, isOver)) if (names.has(name)) return pid;
  }
  return null;
}

/** Processor time to spend on finding the process that has a file open, in milliseconds. */
const OPENER_MS = 500;

/** Another process that has the file at `path` open, by any of its names; null if none is found. Never rejects. */
export async function findOpener(path: string): Promise<number | null> {
  const isOver = processorLimit(OPENER_MS);
  const others = listPids('/proc').filter((pid) => pid !== process.pid);
  return findHolder('/proc', others, await namesOf(path), isOver);
}

/** Whether a process has the file at `path` open. Never rejects. */
export async function isOpenIn(pid: number, path: string): Promise<boolean> {
  return (await findHolder('/proc', [pid], await namesOf(path), () => false)) !== null;
}

async function namesOf(path: string): Promise<ReadonlySet<string>> {
  return new Set([await fs.realpath(path).catch(() => path)]);
}

/**
 * Returns a function that is true once this process has used `limitMs` of processor time from now on. Wall-clock time would not
 * do: a process waiting for a processor would find nothing, and report existing things as missing.
 */
export function processorLimit(limitMs: number): () => boolean {
  const beforeMs = processorMs();
  return () => processorMs() - beforeMs >= limitMs;
}

/** The processor time that this process has used, in milliseconds. */
export function processorMs(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}
