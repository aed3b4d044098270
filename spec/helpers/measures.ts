/** What this process and others have of memory and processors, as V8 and Linux count it. */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

// Also where Node was started without it: the quick specs run as all others do.
setFlagsFromString('--expose-gc');

/** Frees what nothing refers to. */
export const collectGarbage = runInNewContext('gc') as () => void;

/** Bytes in the heap and in buffers outside of it that something still refers to. */
export async function heapBytes(): Promise<number> {
  // What a collection frees may hold something that only the next one frees; callbacks of the system run in between.
  for (let round = 0; round < 3; round += 1) {
    await setImmediate();
    collectGarbage();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

// What another process holds, as Linux counts it.

function readStatus(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const [, kilobytes] = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status) ?? [];
  if (kilobytes === undefined) throw new Error(`process ${pid} has no memory any more`);
  return Number(kilobytes) * 1024;
}

/** The resident memory now, in bytes. Throws where the process is gone. */
export function residentBytes(pid: number): number {
  return readStatus(pid, 'VmRSS');
}

/** The largest resident memory since `resetPeak`, in bytes: no sample can miss it. */
export function peakBytes(pid: number): number {
  return readStatus(pid, 'VmHWM');
}

/** Begins to measure the peak anew. */
export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** How many descriptors a process has open. Throws where it is gone. */
export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

// What processes had of the processors, as Linux counts it.

/** Of all threads of a process together. */
interface ProcessorTime {
  /** How long they ran, in milliseconds. */
  readonly ranMs: number;
  /** How long they were ready to run and had no processor, since others had them all, in milliseconds. */
  readonly waitedMs: number;
}

/** Since the process began. Both are 0 where the system does not count them. */
export function processorTime(pid: number): ProcessorTime {
  const sums = { ranMs: 0, waitedMs: 0 };
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    try {
      const [ran = 0, waited = 0] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, 'utf8')
        .split(' ')
        .map(Number);
      sums.ranMs += ran / 1e6;
      sums.waitedMs += waited / 1e6;
    } catch {
      // The thread has just ended.
    }
  }
  return sums;
}
