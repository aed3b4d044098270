/** The processes of this machine, as Linux tells them in /proc: what this user may not see, and what has ended, is missing. */
import { promises as fs } from 'node:fs';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { linkTarget, listFolder, readText } from '../files/optional-files.js';

/** The numbers of all of them, in their order. */
export function listPids(proc: string): number[] {
  const names = listFolder(proc) ?? [];
  return names.flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : [])).sort((one, other) => one - other);
}

/** A file of a process: `status`, `cgroup`; empty where it cannot be read. */
export function readOf(proc: string, pid: number, file: string): string {
  return readText(`${proc}/${pid}/${file}`);
}

/** What a process is called, which the kernel cuts to 15 bytes; empty where it cannot be read. */
export function programOf(proc: string, pid: number): string {
  return readOf(proc, pid, 'comm').trimEnd();
}

/** The words of its command line. */
export function wordsOf(proc: string, pid: number): string[] {
  return readOf(proc, pid, 'cmdline').split('\0').slice(0, -1);
}

/** The fields of its `stat` from the third on, which is its state: the second is its name, in parentheses, of any characters. */
export function statOf(proc: string, pid: number): string[] {
  const text = readOf(proc, pid, 'stat');
  return text.slice(text.lastIndexOf(')') + 2).split(' ');
}

/** Its working folder; null where it cannot be seen. */
export function folderOf(proc: string, pid: number): string | null {
  return linkTarget(`${proc}/${pid}/cwd`);
}

/** This number of descriptors are looked at in a turn. */
const LOOKS_IN_A_TURN = 64;

/** What the descriptors of a process are: paths, and such as `socket:[4711]`. It ends where `isOver`. */
export async function* openFiles(proc: string, pid: number, isOver: () => boolean): AsyncGenerator<string> {
  const folder = `${proc}/${pid}/fd`;
  const descriptors = await fs.readdir(folder).catch(() => []);
  for (const [index, descriptor] of descriptors.entries()) {
    if (isOver()) return;
    if (index % LOOKS_IN_A_TURN === LOOKS_IN_A_TURN - 1) await nextTurn();
    yield linkTarget(`${folder}/${descriptor}`) ?? '';
  }
}

/** The first of `pids` that has one of these open; null where none is seen to before `isOver`. */
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

/** The processor time for which who has a file open is looked for, in milliseconds. */
const OPENER_MS = 500;

/** The number of another process that has the file at `path` open, by any of its names. Null where none is seen. Never rejects. */
export async function findOpener(path: string): Promise<number | null> {
  const isOver = processorLimit(OPENER_MS);
  const others = listPids('/proc').filter((pid) => pid !== process.pid);
  return findHolder('/proc', others, await namesOf(path), isOver);
}

/** Whether a process has the file at `path` open. Never rejects. */
export async function isOpenIn(pid: number, path: string, proc = '/proc'): Promise<boolean> {
  return (await findHolder(proc, [pid], await namesOf(path), () => false)) !== null;
}

async function namesOf(path: string): Promise<ReadonlySet<string>> {
  return new Set([await fs.realpath(path).catch(() => path)]);
}

/**
 * True once this process has used `limitMs` of processor time from now on. It is no limit by the clock: a process that waits for a
 * processor would find nothing, and take what is there for missing.
 */
export function processorLimit(limitMs: number): () => boolean {
  const before = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(before);
    return (user + system) / 1000 >= limitMs;
  };
}
