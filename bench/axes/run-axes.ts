import type { BenchOptions } from '../options.js';
import type { RunReport, RunSetting } from '../run-table.js';
export function runAxes(_options: BenchOptions, _run: RunSetting): Promise<RunReport> {
  return Promise.reject(new Error('todo'));
}
