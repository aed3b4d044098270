/** One build of the release for all specs of packages, which do not run at the same time. */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, lstatSync, mkdirSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import type { NeedName } from '../helpers/needs.js';

export const RELEASE = join(PROJECT_ROOT, 'dist/release-quick');

export const RELEASE_NEEDS: readonly NeedName[] = [
  'release',
  'ansible',
  'dpkg',
  'git',
  'go',
  'podman',
  'python-build',
  'rpm',
];

export const { version: VERSION } = JSON.parse(projectText('package.json')) as { version: string };

/** What a release is built from, besides the sources of `npm run setup`; and the commit, whose time is in it. */
const INPUTS = [
  ...['dist/.sources', 'guest', 'packaging', 'python', 'docs', 'examples', 'package.json', '.git/logs/HEAD'],
  ...['CHANGELOG.md', 'LICENSE', 'README.md', 'SECURITY.md'],
];

function newestInput(): number {
  const paths = INPUTS.map((name) => join(PROJECT_ROOT, name)).filter((path) => existsSync(path));
  const files = paths.flatMap((path) =>
    statSync(path).isFile()
      ? [path]
      : readdirSync(path, { recursive: true, encoding: 'utf8' }).map((name) => join(path, name)),
  );
  return Math.max(...files.filter((file) => !file.includes('__pycache__')).map((file) => lstatSync(file).mtimeMs));
}

/** Builds it in {@link RELEASE}, without compression, unless it is newer than what it is built from. */
export function buildRelease(t: ExecutionContext): void {
  t.timeout(300_000, 'the release is being built');
  const sums = statSync(join(RELEASE, 'SHA256SUMS'), { throwIfNoEntry: false });
  if (sums !== undefined && sums.mtimeMs > newestInput()) return;
  rmSync(RELEASE, { recursive: true, force: true });
  runRelease(PROJECT_ROOT, RELEASE);
}

/** Runs `npm run release` in a clone. */
export function runRelease(clone: string, output: string): void {
  const env = { ...process.env, GIT_OPTIONAL_LOCKS: '0' };
  execFileSync('npm', ['run', 'release', '--', '--quick', '--output', output], { cwd: clone, env, stdio: 'pipe' });
}

/** The files of a clone at the same commit, with the packages that are installed here: changes to the copy reach neither. */
export function copyOfSources(t: ExecutionContext): string {
  const run = (program: string, ...words: readonly string[]): string =>
    execFileSync(program, words, { cwd: PROJECT_ROOT, encoding: 'utf8' });
  const clone = join(temporaryFolder(t), 'clone');
  mkdirSync(clone);
  for (const file of run('git', 'ls-files', '--cached', '--others', '--exclude-standard').trim().split('\n')) {
    // The time is kept: `npm pack` installs where package-lock.json is newer than what was installed.
    if (lstatSync(join(PROJECT_ROOT, file), { throwIfNoEntry: false }) === undefined) continue;
    cpSync(join(PROJECT_ROOT, file), join(clone, file), { preserveTimestamps: true, verbatimSymlinks: true });
  }
  run('cp', '-al', 'node_modules', clone);
  writeFileSync(join(clone, '.git'), `gitdir: ${run('git', 'rev-parse', '--absolute-git-dir')}`);
  return clone;
}
