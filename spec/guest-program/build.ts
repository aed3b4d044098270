/** Builds vproxy-guest for specs. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT } from '../helpers/files.js';
import { hasNeed } from '../helpers/needs.js';

const FOLDER = mkdtempSync(join(os.tmpdir(), 'vproxy-guest-'));

/** The program, once the tests of the file begin. */
export const GUEST = join(FOLDER, 'vproxy-guest');

/** For a process of a command line, or of a pair: it is this program, which has no control socket. */
export const AS_GUEST = { program: [GUEST], hasDefaultControl: true } as const;

/** Compiles the program to `path`. */
export function compileGuest(path: string): void {
  const { CGO_ENABLED = '0', GOFLAGS = '-mod=mod' } = process.env;
  const env = { ...process.env, CGO_ENABLED, GOFLAGS, GOPROXY: 'off' };
  const words = ['build', '-trimpath', '-ldflags', '-s -w', '-o', path, '.'];
  execFileSync('go', words, { cwd: join(PROJECT_ROOT, 'guest'), env });
}

/** Call it before other hooks; it does nothing on a machine without Go, whose tests are skipped. */
export function buildGuest(): void {
  test.after.always(() => rmSync(FOLDER, { recursive: true, force: true }));
  if (!hasNeed('go')) return;
  test.before((t) => {
    t.timeout(180_000);
    compileGuest(GUEST);
  });
}
