/** What processes had of the processors, as Linux counts it. */
import { readdirSync, readFileSync } from 'node:fs';

/** Of all threads of a process together. */
export interface ProcessorTime {
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
