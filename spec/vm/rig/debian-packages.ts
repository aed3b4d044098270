/** Debian packages of vproxy for a guest. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

import { PROJECT_ROOT } from '../../helpers/project-root.js';

const EXECUTABLE = join(PROJECT_ROOT, 'dist/vproxy-linux-x64');

/** Builds a package of the single executable for each version, and gives the paths in `folder`. */
export function buildPackages(folder: string, versions: readonly string[]): string[] {
  if (!existsSync(EXECUTABLE)) throw new Error(`${EXECUTABLE} is not there: npm run sea`);
  return versions.map((version) => {
    const script = join(PROJECT_ROOT, 'packaging/deb/build.mjs');
    const args = [script, '--quick', '--version', version, '--executable', EXECUTABLE, '--output', folder];
    return execFileSync(process.execPath, args, { encoding: 'utf8' }).trim();
  });
}
