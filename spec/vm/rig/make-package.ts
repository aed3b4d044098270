/** Packages of vproxy that are one file. */
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
