/** Compiles vproxy-guest, for specs and measurements. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../helpers/files.js';

/** Compiles the program to `path`. */
export function compileGuest(path: string): void {
  const { CGO_ENABLED = '0', GOFLAGS = '-mod=mod' } = process.env;
  const env = { ...process.env, CGO_ENABLED, GOFLAGS, GOPROXY: 'off' };
  const words = ['build', '-trimpath', '-ldflags', '-s -w', '-o', path, '.'];
  execFileSync('go', words, { cwd: join(PROJECT_ROOT, 'guest'), env });
}
