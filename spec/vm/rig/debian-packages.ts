/** Debian packages of vproxy for a guest. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';

import { PROJECT_ROOT } from '../../helpers/files.js';
import { makePackage } from './make-package.js';

/** Builds a package of the single executable for each version, and gives the paths in `folder`. */
export function buildPackages(folder: string, versions: readonly string[]): string[] {
  const executable = makePackage('sea', 'vproxy-linux-x64');
  return versions.map((version) => {
    const script = join(PROJECT_ROOT, 'packaging/deb/build.mjs');
    const args = [script, '--quick', '--version', version, '--executable', executable, '--output', folder];
    return execFileSync(process.execPath, args, { encoding: 'utf8' }).trim();
  });
}
