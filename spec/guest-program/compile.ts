/** Compiles vproxy-guest, for specs, measurements and `npm run vm`. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { PROJECT_ROOT } from '../helpers/files.js';

/** The arguments of go that compile the program to `path`, and how to run it. */
export function guestBuild(path: string): { words: string[]; options: { cwd: string; env: NodeJS.ProcessEnv } } {
  const { CGO_ENABLED = '0', GOFLAGS = '-mod=mod' } = process.env;
  const env = { ...process.env, CGO_ENABLED, GOFLAGS, GOPROXY: 'off' };
  const words = ['build', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w', '-o', path, '.'];
  return { words, options: { cwd: join(PROJECT_ROOT, 'guest'), env } };
}

/** Compiles the program to `path`. */
export function compileGuest(path: string): void {
  const { words, options } = guestBuild(path);
  execFileSync('go', words, options);
}
