/** What another process holds, as Linux counts it. */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';

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
