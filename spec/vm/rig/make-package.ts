/** Packages of vproxy: those that are one file, and Debian's. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

import { PROJECT_ROOT } from '../../helpers/files.js';

const MAKE_MS = 300_000;

/** Makes a package by a script of `packaging/`, and returns its path, which is in `dist/`. */
export function makePackage(script: 'bundle' | 'sea', name: string): string {
  execFileSync('node', [`packaging/${script}.mjs`], { cwd: PROJECT_ROOT, stdio: 'pipe', timeout: MAKE_MS });
  return join(PROJECT_ROOT, 'dist', name);
}

/** Makes the one file of vproxy at `path`, whatever else makes or reads the one in `dist/` at the same time. */
export function bundleTo(path: string): void {
  const options = { cwd: PROJECT_ROOT, stdio: 'pipe', timeout: MAKE_MS } as const;
  execFileSync(process.execPath, ['packaging/bundle.mjs', path], options);
}

/** Builds a package of the single executable for each version, and gives the paths in `folder`. */
export function buildPackages(folder: string, versions: readonly string[]): string[] {
  const executable = makePackage('sea', 'vproxy-linux-x64');
  return versions.map((version) => {
    const script = join(PROJECT_ROOT, 'packaging/deb/build.mjs');
    const args = [script, '--quick', '--version', version, '--executable', executable, '--output', folder];
    return execFileSync(process.execPath, args, { encoding: 'utf8' }).trim();
  });
}
