/** Packages of vproxy: the one file, and Debian's. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../../helpers/files.js';

const OPTIONS = { cwd: PROJECT_ROOT, stdio: 'pipe', timeout: 300_000 } as const;

/** Makes the single-file vproxy at `path`, independently of the one in `dist/`. */
export function bundleTo(path: string): void {
  execFileSync(process.execPath, ['packaging/bundle.mjs', path], OPTIONS);
}

/** Builds a package of the single executable for each version, and returns the paths in `folder`. */
export function buildPackages(folder: string, versions: readonly string[]): string[] {
  const executable = join(PROJECT_ROOT, 'dist/vproxy-linux-x64');
  // Of concurrent processes, the first one makes it, if it is older than its inputs.
  const make = `[ ${executable} -nt dist/program/vproxy.cjs ] || exec node packaging/sea.mjs`;
  execFileSync('flock', ['dist/sea.lock', 'sh', '-c', make], OPTIONS);
  return versions.map((version) => {
    const script = join(PROJECT_ROOT, 'packaging/deb/build.mjs');
    const args = [script, '--quick', '--version', version, '--executable', executable, '--output', folder];
    return execFileSync(process.execPath, args, { encoding: 'utf8' }).trim();
  });
}
