/** docs/getting-started.md as written, and the shorter form in README: a guest is built, boots, and answers. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { commandLinesOf } from '../documents/commands-of.js';
import { parseDocument } from '../documents/parse-document.js';
import { play } from '../documents/runner/play.js';
import { DEBIAN_GUEST } from '../documents/scenes/debian-guest.js';
import { PROJECT_ROOT, projectText } from '../helpers/files.js';
import { buildPackages } from './rig/make-package.js';

const MAKE_MS = 300_000;
const SCENE_MS = 600_000;

const linesIn = (path: string): string[] =>
  parseDocument(path, projectText(path))
    .blocks.flatMap(commandLinesOf)
    .map(({ text }) => text);
const guide = linesIn('docs/getting-started.md');

test.serial.after.always('the guest is removed', () => rmSync(DEBIAN_GUEST, { recursive: true, force: true }));

test.serial('the command of the document builds the guest', (t) => {
  t.timeout(2 * MAKE_MS);
  const command = guide.find((line) => line.startsWith('examples/debian-guest '));
  t.truthy(command);
  const [, folder = '', file = ''] = command?.split(' ') ?? [];
  // As a clone has it.
  const clone = mkdtempSync(join(tmpdir(), 'getting-started-'));
  t.teardown(() => rmSync(clone, { recursive: true, force: true }));
  symlinkSync(join(PROJECT_ROOT, 'examples'), join(clone, 'examples'));
  mkdirSync(join(clone, 'dist'));
  const [built = ''] = buildPackages(clone, [/_(.*)_/.exec(file)?.[1] ?? '']);
  renameSync(built, join(clone, file));
  execFileSync('bash', ['-c', command ?? ''], { cwd: clone, stdio: 'pipe', timeout: MAKE_MS });
  rmSync(DEBIAN_GUEST, { recursive: true, force: true });
  execFileSync('cp', ['--recursive', '--sparse=always', join(clone, folder), DEBIAN_GUEST]);
});

test.serial('the guest boots, and does what the document shows', async (t) => {
  t.timeout(SCENE_MS * 1.1);
  await t.notThrowsAsync(play('docs/getting-started.md', 'debian-guest', SCENE_MS));
});

test('the document contains the part in README.md', (t) => {
  const [, section = ''] = /^## Try it: .*?\n(.*?)^## /ms.exec(projectText('README.md')) ?? [];
  const lines = parseDocument('README.md', section).blocks.flatMap(commandLinesOf);
  t.true(lines.length > 5);
  for (const { text } of lines) t.true(guide.includes(text), text);
});
