/** For how long the start of a process takes the main thread, by the memory of the process that starts it. */
import { runProgram } from '../load/program.js';
import type { Column } from '../report/figures-table.js';
import type { Outcomes, Work } from './work.js';

const STARTS = 100;

/** Beside some 50 MB of Node and vproxy. */
const MEGABYTES: Readonly<Record<string, number>> = { small: 0, large: 250 };

/** The work's name and its rows. */
export const PROCESS_STARTS: Pick<Work, 'id' | 'rows'> = {
  id: 'process-starts',
  rows: () => [
    { key: 'spawn', title: 'a start by posix_spawn, main thread', unit: 'ms' },
    { key: 'fork', title: 'a start by Node, main thread', unit: 'ms' },
  ],
};

/** The processes. */
export const STARTERS: readonly Column[] = [
  { id: 'small', title: 'a process of 50 MB' },
  { id: 'large', title: 'a process of 300 MB' },
];

/** Measures one of them. */
export async function measureProcessStarts(id: string): Promise<Outcomes> {
  const { spawn, fork } = await runProgram('tools/bench/load/process-starts.js', [`${MEGABYTES[id]}`, `${STARTS}`]);
  return { spawn: spawn ?? Number.NaN, fork: fork ?? Number.NaN };
}
