/** vproxy-guest for this machine's processor. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { guestBuild } from '../../spec/guest-program/compile.js';
import { PROJECT_ROOT } from '../../spec/helpers/files.js';
import { findProgram } from '../bench/process/find-program.js';
import { missing } from './missing.js';
import { runToEnd } from './run-to-end.js';

const BUILT = join(PROJECT_ROOT, `dist/vproxy-guest-linux-${process.arch === 'x64' ? 'amd64' : process.arch}`);

/** The path of the program: compiled into `folder`, with what Go keeps in `cache`, or, without Go, the one in dist. */
export async function guestProgram(cache: string, folder: string, signal: AbortSignal): Promise<string> {
  if (findProgram('go') === undefined) {
    if (existsSync(BUILT)) return BUILT;
    throw missing('go, which compiles vproxy-guest', 'golang-go');
  }
  // Linked for each VM, in less than a second: Go checks what it keeps, but not a program that looks up to date.
  const program = join(folder, 'vproxy-guest');
  const { words, options } = guestBuild(program);
  const GOCACHE = process.env['GOCACHE'] ?? join(cache, 'go-build');
  await runToEnd('go', words, { ...options, env: { ...options.env, GOCACHE, GOTMPDIR: folder }, signal });
  return program;
}
