/** Builds vproxy-guest for specs. */
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { hasNeed } from '../helpers/needs.js';
import { compileGuest } from './compile.js';

const FOLDER = mkdtempSync(join(os.tmpdir(), 'vproxy-guest-'));

/** The program, once the tests of the file begin. */
export const GUEST = join(FOLDER, 'vproxy-guest');

/** For a process of a command line, or of a pair: it is this program, which has no control socket. */
export const AS_GUEST = { program: [GUEST], hasDefaultControl: true } as const;

/** Call it before other hooks; it does nothing on a machine without Go, whose tests are skipped. */
export function buildGuest(): void {
  test.after.always(() => rmSync(FOLDER, { recursive: true, force: true }));
  if (!hasNeed('go')) return;
  test.before((t) => {
    t.timeout(180_000);
    compileGuest(GUEST);
  });
}
