/** Which process has what open, from the descriptors that this user may see. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { listFolder } from '../../lib/system/files/optional-files.js';
import { listPids, openFiles, programOf, readOf, statOf, wordsOf } from '../../lib/system/proc/proc.js';
import { escapeText } from '../../lib/util/escape.js';
import { type Finding, failure } from './findings.js';

/** A process that has something open. */
export interface Holder {
  readonly pid: number;
  /** The name of its program, truncated by the kernel to 15 characters. */
  readonly program: string;
  /** Its systemd unit, or null. */
  readonly unit: string | null;
  /** The command that stops it and nothing else: a scope, or the service of its parent, may be a whole login. Null for a manager. */
  readonly stop: () => string | null;
  /** Whether it is stopped by a signal, or traced. */
  readonly isStopped: boolean;
}

/** Maximum number of processes named in a line. */
const MAX_SHOWN = 3;

/** The processes of a machine at one moment. */
export class ProcessList {
  /** Whether the descriptors of some processes are hidden, or were not read in time. */
  readonly isPartial: boolean;
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

  /** Reads the descriptors of every process, as far as `timeoutMs` allows. Never rejects. */
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

  /** Returns the other processes that have `target` open: a path or `socket:[123]`, as the links in /proc/PID/fd name it. */
  holdersOf(target: string): Holder[] {
    return [...(this.#holders.get(target) ?? [])].filter((pid) => pid !== process.pid).map((pid) => this.describe(pid));
  }

  holdersOfSocket(inode: string): Holder[] {
    return this.holdersOf(`socket:[${inode}]`);
  }

  describe(pid: number): Holder {
    const program = escapeText(programOf(this.#folder, pid), 32);
    const unit = this.#unitOf(pid);
    const [state = ''] = statOf(this.#folder, pid);
    const stop = (): string | null => this.#stopOf(pid, unit);
    return { pid, program, unit: unit === null ? null : escapeText(unit, 80), stop, isStopped: /^[Tt]$/.test(state) };
  }

  #unitOf(pid: number): string | null {
    const [, unit = null] =
      /^\d+:(?:name=systemd)?:.*\/([^/\n]+\.(?:service|scope))/m.exec(readOf(this.#folder, pid, 'cgroup')) ?? [];
    return unit;
  }

  /** By its service if it is the only child of systemd there: the main process. Other managers may be those of a container. */
  #stopOf(pid: number, unit: string | null): string | null {
    if (pid === 1 || programOf(this.#folder, pid) === 'systemd') return null;
    const isMain = (one: number) => Number(statOf(this.#folder, one)[1]) === 1 && this.#unitOf(one) === unit;
    const isOfSystemd = unit?.endsWith('.service') === true && isMain(pid) && programOf(this.#folder, 1) === 'systemd';
    const isAlone = isOfSystemd && this.pids.every((one) => one === pid || !isMain(one));
    return isAlone ? `systemctl stop ${escapeText(unit, 80)}` : `kill ${pid}`;
  }

  /** The words of a process's command line; empty if hidden. */
  commandLine(pid: number): string[] {
    return wordsOf(this.#folder, pid);
  }
}

/** Formats `process 123 (qemu-system-x86, vm1.scope)`. */
export function formatHolder({ pid, program, unit }: Holder): string {
  const facts = [program, unit ?? ''].filter((text) => text !== '');
  return `process ${pid}${facts.length === 0 ? '' : ` (${facts.join(', ')})`}`;
}

/** Formats several; or, if none could be seen, the likely reason. */
export function formatHolders(holders: readonly Holder[], isPartial: boolean): string {
  const others = holders.length - MAX_SHOWN;
  const names = holders.slice(0, MAX_SHOWN).map(formatHolder).join(', ');
  if (holders.length > 0) return others > 0 ? `${names} and ${others} others` : names;
  return isPartial
    ? 'a process that only root can see'
    : 'a process that cannot be seen from here (another container?)';
}

/** The finding that others have a channel; its remedy has the command that stops the first of them. */
export function heldOpen(message: string, [first]: readonly Holder[]): Finding {
  const found = failure('anything', 'channel-busy', message);
  const how = first?.stop() ?? null;
  return how === null || found.remedy === null ? found : { ...found, remedy: `${found.remedy}: ${how}` };
}

/** Returns a function that turns true after `timeoutMs`. */
export function deadline(timeoutMs: number): () => boolean {
  const untilMs = performance.now() + timeoutMs;
  return () => performance.now() >= untilMs;
}

/** Whether a folder exists that this user may not read. */
function isHidden(folder: string): boolean {
  return existsSync(folder) && listFolder(folder) === null;
}
