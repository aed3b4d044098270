/** Who has what open, from the descriptors of all processes, as far as this user may see them. */
import { readFileSync, readlinkSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { escapeText } from '../../lib/util/escape.js';
import { listFolder } from '../list-folder.js';

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

/** The number of bytes that are read of a file in /proc. */
const MAX_BYTES = 4096;

/** The processes of a machine at one moment. */
export class ProcessList {
  /** Whether the descriptors of some processes could not be seen, or not in time. */
  readonly isPartial: boolean;
  /** The numbers of all processes. */
  readonly pids: readonly number[];
  readonly #folder: string;
  readonly #holders: ReadonlyMap<string, readonly number[]>;

  private constructor(folder: string, pids: readonly number[], holders: Map<string, number[]>, isPartial: boolean) {
    this.#folder = folder;
    this.pids = pids;
    this.#holders = holders;
    this.isPartial = isPartial;
  }

  /** Looks at every process; what is not seen within `timeoutMs` is left out. Never rejects. */
  static async read(folder: string, timeoutMs: number): Promise<ProcessList> {
    const untilMs = performance.now() + timeoutMs;
    const pids = listFolder(folder)?.flatMap((name) => (/^\d+$/.test(name) ? [Number(name)] : [])) ?? [];
    const holders = new Map<string, number[]>();
    let isPartial = false;
    for (const pid of pids) {
      if (performance.now() >= untilMs) {
        isPartial = true;
        break;
      }
      const descriptors = listFolder(join(folder, String(pid), 'fd'));
      if (descriptors === null) isPartial ||= isThere(join(folder, String(pid)));
      for (const target of new Set(descriptors?.map((name) => linkOf(join(folder, String(pid), 'fd', name))))) {
        if (target !== null) holders.set(target, [...(holders.get(target) ?? []), pid]);
      }
      await nextTurn();
    }
    return new ProcessList(folder, pids, holders, isPartial);
  }

  /** The other processes that have `target` open, as the links in /proc/PID/fd call it: a path, or `socket:[123]`. */
  holdersOf(target: string): Holder[] {
    const pids = this.#holders.get(target) ?? [];
    return pids.filter((pid) => pid !== process.pid).map((pid) => this.describe(pid));
  }

  holdersOfSocket(inode: string): Holder[] {
    return this.holdersOf(`socket:[${inode}]`);
  }

  describe(pid: number): Holder {
    const folder = join(this.#folder, String(pid));
    const program = escapeText(readSome(join(folder, 'comm')).trimEnd(), 32);
    // The name is in parentheses and may have any characters; the state comes after the last parenthesis.
    const [, state = ''] = /^.*\) (\w)/s.exec(readSome(join(folder, 'stat'))) ?? [];
    const units = [
      ...readSome(join(folder, 'cgroup')).matchAll(/^\d+:(?:name=systemd)?:.*\/([^/\n]+\.(?:service|scope))/gm),
    ];
    const unit = units[0]?.[1] ?? null;
    return { pid, program, unit: unit === null ? null : escapeText(unit, 80), isStopped: /^[Tt]$/.test(state) };
  }

  /** The words of a process's command line; empty where it cannot be seen. */
  commandLine(pid: number): string[] {
    return readSome(join(this.#folder, String(pid), 'cmdline'), 2 ** 17)
      .split('\0')
      .slice(0, -1);
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

function isThere(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function linkOf(path: string): string | null {
  try {
    return readlinkSync(path);
  } catch {
    return null;
  }
}

function readSome(path: string, most = MAX_BYTES): string {
  try {
    return readFileSync(path, 'utf8').slice(0, most);
  } catch {
    return '';
  }
}
