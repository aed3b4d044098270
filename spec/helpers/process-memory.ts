/** How much memory another process has, as Linux counts it. */
import { readFileSync, writeFileSync } from 'node:fs';

function readStatus(pid: number, field: 'VmRSS' | 'VmHWM'): number {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) * 1024;
}

/** The resident memory now, in bytes. */
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
