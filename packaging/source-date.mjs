// The time and the commit recorded in packages, manuals and images, for reproducible builds.
import { execFileSync } from 'node:child_process';
import { realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';

const PROJECT = realpathSync(join(import.meta.dirname, '..'));

/**
 * In seconds, as text: SOURCE_DATE_EPOCH, else the time of the last commit, else (outside a clone) that of the change log.
 */
export function sourceDate() {
  return (
    process.env.SOURCE_DATE_EPOCH ??
    askGit('log', '-1', '--format=%ct') ??
    String(Math.floor(statSync(join(PROJECT, 'CHANGELOG.md')).mtimeMs / 1000))
  );
}

/** The commit of the clone, with `-dirty` if tracked files differ from it; null outside a clone. */
export function sourceRevision() {
  const commit = askGit('rev-parse', '--verify', 'HEAD');
  return commit !== null && askGit('status', '--porcelain', '--untracked-files=no') !== null
    ? `${commit}-dirty`
    : commit;
}

/** What git prints; null if that is nothing, on a failure, and in a folder within the clone of another project. */
function askGit(...args) {
  const run = (words) => execFileSync('git', words, { cwd: PROJECT, encoding: 'utf8', stdio: 'pipe' }).trim();
  try {
    return run(['rev-parse', '--show-toplevel']) === PROJECT ? run(args) || null : null;
  } catch {
    return null;
  }
}
