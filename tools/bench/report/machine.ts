/** The machine and the commit of a run. */
import { execFileSync } from 'node:child_process';
import { cpus, release, type as systemName, totalmem } from 'node:os';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';

/** Facts without which the figures mean nothing. */
export interface MachineFacts {
  readonly node: string;
  readonly cpu: string;
  readonly cpuCount: number;
  readonly memoryBytes: number;
  readonly kernel: string;
  /** The commit, with `-dirty` if files differ from it; null without git. */
  readonly commit: string | null;
}

/** The facts of this machine and this folder. */
export function describeMachine(): MachineFacts {
  return {
    node: process.version,
    cpu: cpus()[0]?.model ?? 'unknown',
    cpuCount: cpus().length,
    memoryBytes: totalmem(),
    kernel: `${systemName()} ${release()}`,
    commit: describeCommit(),
  };
}

function describeCommit(): string | null {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: PROJECT_ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    return git('rev-parse', 'HEAD') + (git('status', '--porcelain') === '' ? '' : '-dirty');
  } catch {
    return null;
  }
}
