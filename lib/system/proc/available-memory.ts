/** How much memory this process can still get. */
import { dirname, join } from 'node:path';
import { readText } from '../files/optional-files.js';

/** The memory available to this process, in bytes, and its bound. */
export interface AvailableMemory {
  readonly bytes: number;
  /** `this machine`, or the folder of a control group. */
  readonly boundBy: string;
}

/** For both versions of control groups: the line in /proc/self/cgroup, the mount point, and the files. */
const VERSIONS = [
  {
    line: /^0::(\/.*)$/m,
    mount: 'sys/fs/cgroup',
    limits: ['memory.max', 'memory.high'],
    used: 'memory.current',
    cache: /^(?:in)?active_file (\d+)$/gm,
  },
  {
    line: /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(\/.*)$/m,
    mount: 'sys/fs/cgroup/memory',
    limits: ['memory.limit_in_bytes'],
    used: 'memory.usage_in_bytes',
    cache: /^total_(?:in)?active_file (\d+)$/gm,
  },
] as const;

/** The least that the machine and this process's control groups leave; page cache counts as free. Null if unknown. */
export function availableMemory(root = '/'): AvailableMemory | null {
  const found: AvailableMemory[] = [];
  const [, kib] = /^MemAvailable: +(\d+) kB$/m.exec(readText(join(root, 'proc/meminfo'))) ?? [];
  if (kib !== undefined) found.push({ bytes: Number(kib) * 1024, boundBy: 'this machine' });
  const own = readText(join(root, 'proc/self/cgroup'));
  for (const { line, mount, ...files } of VERSIONS) {
    const [, path] = line.exec(own) ?? [];
    if (path === undefined) continue;
    for (let group = path; ; group = dirname(group)) {
      const bytes = leftIn(join(root, mount, group), files);
      if (bytes !== null) found.push({ bytes, boundBy: `the control group ${group}` });
      if (dirname(group) === group) break;
    }
  }
  return found.reduce<AvailableMemory | null>(
    (least, one) => (least === null || one.bytes < least.bytes ? one : least),
    null,
  );
}

/** The memory left in a control group; null if it has no limit, or its files are not visible here. */
function leftIn(folder: string, files: Omit<(typeof VERSIONS)[number], 'line' | 'mount'>): number | null {
  const limits = files.limits.map((name) => readText(join(folder, name))).filter((text) => /^\d+\n?$/.test(text));
  const used = readText(join(folder, files.used));
  if (limits.length === 0 || used === '') return null;
  const cached = [...readText(join(folder, 'memory.stat')).matchAll(files.cache)].map(([, bytes]) => Number(bytes));
  const usedBytes = Number(used) - cached.reduce((sum, bytes) => sum + bytes, 0);
  return Math.max(0, Math.min(...limits.map(Number)) - usedBytes);
}
