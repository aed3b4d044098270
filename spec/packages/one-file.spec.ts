/** `npm run bundle`: all of vproxy in one file. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, readFileSync, statSync } from 'node:fs';
import { builtinModules } from 'node:module';
import { join } from 'node:path';
import test from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { checkCommands, checkEverydayUse, type PackagedProgram } from '../helpers/packaged-program.js';

const BUNDLE = join(PROJECT_ROOT, 'dist/vproxy.cjs');

test.before('the file is made', (t) => {
  const { status, stderr } = spawnSync('node', ['packaging/bundle.mjs'], { cwd: PROJECT_ROOT, encoding: 'utf8' });
  t.is(status, 0, stderr);
});

/** The file alone, with nothing of the project beside it or above it. */
function alone(folder: string): PackagedProgram {
  const file = join(folder, 'vproxy.cjs');
  copyFileSync(BUNDLE, file);
  return { vproxy: [process.execPath, file], wrapper: file, env: { PATH: process.env['PATH'] ?? '' } };
}

test('it is at most 1.3 MB, as the documents say, executable, and contains the licences of its parts', (t) => {
  const { size, mode } = statSync(BUNDLE);
  t.true(size < 1_300_000, `${size} bytes`);
  t.is(mode & 0o111, 0o111);
  const text = readFileSync(BUNDLE, 'utf8');
  t.regex(text, /^#!\/usr\/bin\/env node\n/);
  for (const name of ['yargs', 'zod', 'smol-toml', 'debug', 'eventemitter3', 'ws', 'koffi']) {
    t.regex(
      text,
      new RegExp(`^${name} \\d+\\.\\d+\\.\\d+\\n\\n[^]{0,200}Licen[cs]e|^${name} \\d.*\\n\\n.*Copyright`, 'im'),
    );
  }
});

test('it needs only Node, and optionally koffi', (t) => {
  const loaded = [...readFileSync(BUNDLE, 'utf8').matchAll(/\brequire\(["']([^"']+)["']\)/g)].map(
    ([, name = '']) => name,
  );
  const foreign = loaded.filter((name) => !name.startsWith('node:') && !builtinModules.includes(name));
  // debug tries to load it, and works without.
  t.deepEqual(foreign, ['supports-color']);
});

test("the README's commands, storage calls and commands for a running process work with the file alone", async (t) => {
  await checkEverydayUse(t, alone(temporaryFolder(t)));
});

test('every command is in it but the page, with the same output as in the built tree', async (t) => {
  await checkCommands(t, alone(temporaryFolder(t)), ['web']);
});

test('debug output works in it', (t) => {
  const { vproxy, env } = alone(temporaryFolder(t));
  const [file, ...words] = vproxy;
  const { stderr } = spawnSync(file, [...words, '-c', 'fd:99', '--no-control'], {
    env: { ...env, DEBUG: 'vproxy*' },
    encoding: 'utf8',
    timeout: 30_000,
  });
  t.regex(stderr, /vproxy/);
});
