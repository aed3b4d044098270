// The time recorded in packages and manuals, for reproducible builds.
import { execFileSync } from 'node:child_process';
import { statSync } from 'node:fs';
import { join } from 'node:path';

const PROJECT = join(import.meta.dirname, '..');

/**
 * In seconds, as text: SOURCE_DATE_EPOCH, else the time of the last commit, else (outside a clone) that of the change log.
 */
export function sourceDate() {
  return (
    process.env.SOURCE_DATE_EPOCH ??
    lastCommit() ??
    String(Math.floor(statSync(join(PROJECT, 'CHANGELOG.md')).mtimeMs / 1000))
  );
}

function lastCommit() {
  try {
    return (
      execFileSync('git', ['log', '-1', '--format=%ct'], { cwd: PROJECT, encoding: 'utf8', stdio: 'pipe' }).trim() ||
      null
    );
  } catch {
    return null;
  }
}
