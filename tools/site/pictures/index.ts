#!/usr/bin/env node
/**
 * `npm run pictures`: draws the pictures in the documents from the current programs, into `docs/img/` or the given folder.
 * Needs tmux, curl, busybox, sshd and unshare.
 */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { cleanEnvironment, stageWords } from '../../../spec/documents/runner/play.js';
import { PROJECT_ROOT } from '../../../spec/helpers/files.js';
import { type Carried, drawDiagram } from './diagram.js';
import { drawScreen, type ScreenPicture } from './screen.js';

const folder = resolve(process.argv[2] ?? join(PROJECT_ROOT, 'docs/img'));
const mountPoint = mkdtempSync(join(tmpdir(), 'vproxy-pictures-'));
try {
  const script = join(PROJECT_ROOT, 'dist/tools/site/pictures/record.js');
  const [program = '', ...words] = stageWords(mountPoint, [process.execPath, '--enable-source-maps', script]);
  const { stdout } = await promisify(execFile)(program, words, { env: cleanEnvironment(), timeout: 200_000 });
  const [session, top, carried] = JSON.parse(stdout) as [ScreenPicture, ScreenPicture, Carried[]];
  const pictures = { session: drawScreen(session), top: drawScreen(top), topology: drawDiagram(carried) };
  for (const [name, picture] of Object.entries(pictures)) {
    const file = join(folder, `${name}.svg`);
    writeFileSync(file, picture);
    console.log(file);
  }
} finally {
  rmSync(mountPoint, { recursive: true, force: true });
}
