/** The memory and processor time of this process and others, as counted by V8 and Linux. */

import { readdirSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

// Set here, so that Node need not be started with it.
setFlagsFromString('--expose-gc');

/** Frees unreferenced memory. */
export const collectGarbage = runInNewContext('gc') as () => void;

/** Referenced bytes in the heap and in buffers outside it. */
export async function heapBytes(): Promise<number> {
  // A collection may free objects that hold others, which only the next one frees; system callbacks run in between.
  for (let round = 0; round < 3; round += 1) {
    await setImmediate();
    collectGarbage();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

// The memory of another process, as counted by Linux.

function readStatus(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const [, kilobytes] = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status) ?? [];
  if (kilobytes === undefined) throw new Error(`process ${pid} has exited`);
  return Number(kilobytes) * 1024;
}

/** The resident memory now, in bytes. Throws if the process has exited. */
export function residentBytes(pid: number): number {
  return readStatus(pid, 'VmRSS');
}

/** The largest resident memory since `resetPeak`, in bytes, without sampling. */
export function peakBytes(pid: number): number {
  return readStatus(pid, 'VmHWM');
}

export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** The number of open descriptors of a process. Throws if it has exited. */
export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

/** The files that the descriptors of a process lead to, without those that are closed meanwhile. */
export const openFiles = (pid: number | 'self' = 'self'): string[] =>
  readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });

// Processor times of processes, as counted by Linux.

/** Of all threads of a process together. */
interface ProcessorTime {
  /** How long they ran, in milliseconds. */
  readonly ranMs: number;
  /** How long they were ready to run but waited for a processor, in milliseconds. */
  readonly waitedMs: number;
}

/** Since the process started. Both are 0 if the system does not count them. */
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

/**
 * The time since now, in milliseconds, less the time that this process and another one waited for a processor used by other
 * programs: until that one exits, or was last asked.
 */
export function stopwatch(pid: number): () => number {
  const startedAt = performance.now();
  let waitedMs = 0;
  const waited = (): number => {
    try {
      waitedMs = processorTime(pid).waitedMs;
    } catch {
      // It has exited.
    }
    return waitedMs + processorTime(process.pid).waitedMs;
  };
  const waitedBefore = waited();
  return () => Math.max(0, performance.now() - startedAt - (waited() - waitedBefore));
}
