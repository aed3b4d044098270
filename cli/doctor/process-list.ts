/** Who has what open, from the descriptors of all processes, as far as this user may see them. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { listFolder } from '../../lib/system/files/optional-files.js';
import { listPids, openFiles, programOf, readOf, statOf, wordsOf } from '../../lib/system/proc/proc.js';
import { escapeText } from '../../lib/util/escape.js';

/** A process that has something open. */
export interface Holder {
  readonly pid: number;
  /** The name of its program, cut by the kernel to 15 characters. */
  readonly program: string;
  /** The unit of systemd that it is in, or null. */
  readonly unit: string | null;
  /** Whether it is stopped by a signal, or traced. */
  readonly isStopped: boolean;
}

/** The number of processes that a line names. */
const MAX_SHOWN = 3;

/** The processes of a machine at one moment. */
export class ProcessList {
  /** Whether the descriptors of some processes could not be seen, or not in time. */
  readonly isPartial: boolean;
  /** The numbers of all processes. */
  readonly pids: readonly number[];
  readonly #folder: string;
  readonly #holders: ReadonlyMap<string, ReadonlySet<number>>;

  private constructor(
    folder: string,
    pids: readonly number[],
    holders: ReadonlyMap<string, ReadonlySet<number>>,
    isPartial: boolean,
  ) {
    this.#folder = folder;
    this.pids = pids;
    this.#holders = holders;
    this.isPartial = isPartial;
  }

  /** Looks at every process; what is not seen within `timeoutMs` is left out. Never rejects. */
  static async read(folder: string, timeoutMs: number): Promise<ProcessList> {
    const isOver = deadline(timeoutMs);
    const pids = listPids(folder);
    const holders = new Map<string, Set<number>>();
    let isPartial = false;
    for (const pid of pids) {
      isPartial ||= isHidden(join(folder, String(pid), 'fd'));
      for await (const target of openFiles(folder, pid, isOver)) {
        holders.set(target, (holders.get(target) ?? new Set()).add(pid));
      }
    }
    return new ProcessList(folder, pids, holders, isPartial || isOver());
  }

  /** The other processes that have `target` open, as the links in /proc/PID/fd call it: a path, or `socket:[123]`. */
  holdersOf(target: string): Holder[] {
    return [...(this.#holders.get(target) ?? [])].filter((pid) => pid !== process.pid).map((pid) => this.describe(pid));
  }

  holdersOfSocket(inode: string): Holder[] {
    return this.holdersOf(`socket:[${inode}]`);
  }

  describe(pid: number): Holder {
    const program = escapeText(programOf(this.#folder, pid), 32);
    const [, unit = null] =
      /^\d+:(?:name=systemd)?:.*\/([^/\n]+\.(?:service|scope))/m.exec(readOf(this.#folder, pid, 'cgroup')) ?? [];
    const [state = ''] = statOf(this.#folder, pid);
    return { pid, program, unit: unit === null ? null : escapeText(unit, 80), isStopped: /^[Tt]$/.test(state) };
  }

  /** The words of a process's command line; empty where it cannot be seen. */
  commandLine(pid: number): string[] {
    return wordsOf(this.#folder, pid);
  }
}

/** `process 123 (qemu-system-x86, vm1.scope)`. */
export function formatHolder({ pid, program, unit }: Holder): string {
  const facts = [program, unit ?? ''].filter((text) => text !== '');
  return `process ${pid}${facts.length === 0 ? '' : ` (${facts.join(', ')})`}`;
}

/** Several; or, where nobody could be seen, what that may mean. */
export function formatHolders(holders: readonly Holder[], isPartial: boolean): string {
  const others = holders.length - MAX_SHOWN;
  const names = holders.slice(0, MAX_SHOWN).map(formatHolder).join(', ');
  if (holders.length > 0) return others > 0 ? `${names} and ${others} others` : names;
  return isPartial
    ? 'a process that only root can see'
    : 'a process that cannot be seen from here (another container?)';
}

/** True from `timeoutMs` from now on. */
export function deadline(timeoutMs: number): () => boolean {
  const untilMs = performance.now() + timeoutMs;
  return () => performance.now() >= untilMs;
}

/** Whether there is a folder that this user may not look into. */
function isHidden(folder: string): boolean {
  return existsSync(folder) && listFolder(folder) === null;
}
