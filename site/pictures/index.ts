#!/usr/bin/env node
/**
 * `npm run pictures`: records the terminals in the documents from the current programs, into `docs/img/` or the given folder.
 * Needs tmux, curl, busybox and unshare.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { cleanEnvironment, stageWords } from '../../spec/documents/runner/play.js';
import { PROJECT_ROOT } from '../../spec/helpers/files.js';
import { drawScreen, type ScreenPicture } from './screen.js';

/** The files, in the order in which they are recorded. */
const FILES = ['session.svg', 'top.svg'] as const;

const folder = resolve(process.argv[2] ?? join(PROJECT_ROOT, 'docs/img'));
const mountPoint = mkdtempSync(join(tmpdir(), 'vproxy-pictures-'));
try {
  const script = join(PROJECT_ROOT, 'dist/site/pictures/record.js');
  const [program = '', ...words] = stageWords(mountPoint, [process.execPath, '--enable-source-maps', script]);
  const { stdout } = await promisify(execFile)(program, words, { env: cleanEnvironment(), timeout: 200_000 });
  for (const [at, picture] of (JSON.parse(stdout) as ScreenPicture[]).entries()) {
    const file = join(folder, FILES[at] ?? '');
    writeFileSync(file, drawScreen(picture));
    console.log(file);
  }
} finally {
  rmSync(mountPoint, { recursive: true, force: true });
}
