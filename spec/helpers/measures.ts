/** The memory and processor time of this process and others, as V8 and Linux count them. */

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

// Set here, so that Node need not be started with it.
setFlagsFromString('--expose-gc');

/** Frees what nothing refers to. */
export const collectGarbage = runInNewContext('gc') as () => void;

/** Bytes in the heap and in buffers outside of it that something still refers to. */
export async function heapBytes(): Promise<number> {
  // A collection may free objects that hold others, which only the next one frees; callbacks of the system run in
  // between.
  for (let round = 0; round < 3; round += 1) {
    await setImmediate();
    collectGarbage();
  }
  const { heapUsed, external } = process.memoryUsage();
  return heapUsed + external;
}

// The memory of another process, as Linux counts it.

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

/** The largest resident memory since `resetPeak`, in bytes: no sampling can miss it. */
export function peakBytes(pid: number): number {
  return readStatus(pid, 'VmHWM');
}

export function resetPeak(pid: number): void {
  writeFileSync(`/proc/${pid}/clear_refs`, '5');
}

/** The number of descriptors that a process has open. Throws where it is gone. */
export function openDescriptors(pid: number): number {
  return readdirSync(`/proc/${pid}/fd`).length;
}

// Processor times of processes, as Linux counts them.

/** Of all threads of a process together. */
interface ProcessorTime {
  /** How long they ran, in milliseconds. */
  readonly ranMs: number;
  /** How long they were ready to run and had no processor, since others used them all, in milliseconds. */
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

/**
 * How long it is since now, in milliseconds, less what this process and another one have waited for a processor, which other programs
 * had then: until that one is gone, or was last asked.
 */
export function stopwatch(pid: number): () => number {
  const startedAt = performance.now();
  let waitedMs = 0;
  const waited = (): number => {
    try {
      waitedMs = processorTime(pid).waitedMs;
    } catch {
      // It is gone.
    }
    return waitedMs + processorTime(process.pid).waitedMs;
  };
  const waitedBefore = waited();
  return () => Math.max(0, performance.now() - startedAt - (waited() - waitedBefore));
}
