/** What processes had of the processors, as Linux counts it. */
import { readFileSync } from 'node:fs';

/** Of the first thread of a process. */
export interface ProcessorTime {
  /** How long it ran, in milliseconds. */
  readonly ranMs: number;
  /** How long it was ready to run and had no processor, since others had them all, in milliseconds. */
  readonly waitedMs: number;
}

/** Since the process began. Both are 0 where the system does not count them. */
export function processorTime(pid: number): ProcessorTime {
  try {
    const [ran = 0, waited = 0] = readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ').map(Number);
    return { ranMs: ran / 1e6, waitedMs: waited / 1e6 };
  } catch {
    return { ranMs: 0, waitedMs: 0 };
  }
}
