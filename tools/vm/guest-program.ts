/** vproxy-guest for this machine's processor. */
import { copyFileSync, existsSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { guestBuild } from '../../spec/guest-program/compile.js';
import { PROJECT_ROOT } from '../../spec/helpers/files.js';
import { findProgram } from '../bench/process/find-program.js';
import { missing } from './missing.js';
import { runToEnd } from './run-to-end.js';

const BUILT = join(PROJECT_ROOT, `dist/vproxy-guest-linux-${process.arch === 'x64' ? 'amd64' : process.arch}`);

/** The path of the program: compiled into `folder`, with temporary files in `work`, or, without Go, the one in dist. */
export async function guestProgram(folder: string, work: string, signal: AbortSignal): Promise<string> {
  if (findProgram('go') === undefined) {
    if (existsSync(BUILT)) return BUILT;
    throw missing('go, which compiles vproxy-guest', 'golang-go');
  }
  const kept = join(folder, 'vproxy-guest');
  const made = `${kept}.${process.pid}`;
  try {
    // Go does nothing if this is up to date.
    if (existsSync(kept)) copyFileSync(kept, made);
    const { words, options } = guestBuild(made);
    const GOCACHE = process.env['GOCACHE'] ?? join(folder, 'go-build');
    await runToEnd('go', words, { ...options, env: { ...options.env, GOCACHE, GOTMPDIR: work }, signal });
    renameSync(made, kept);
  } finally {
    rmSync(made, { force: true });
  }
  return kept;
}
