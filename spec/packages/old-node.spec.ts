/** A Node that is too old: every program reports it in one line, before anything else is loaded or installed. */
import { spawnSync } from 'node:child_process';
import { cpSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';

interface Runtimes {
  readonly TOO_OLD: string;
  readonly fetchRuntime: (version: string) => string;
}

const runtimes = (await import(join(PROJECT_ROOT, 'packaging/runtimes.mjs'))) as Runtimes;
const bin = join(runtimes.fetchRuntime(runtimes.TOO_OLD), 'bin');
const LINE = `vproxy needs Node 20.19 or newer; this is ${runtimes.TOO_OLD}: see https://nodejs.org/en/download\n`;

function checkRefusal(t: ExecutionContext, folder: string, words: readonly string[]): void {
  const { status, stdout, stderr } = spawnSync(join(bin, 'node'), words, {
    cwd: folder,
    env: { PATH: `${bin}${delimiter}${process.env['PATH'] ?? ''}` },
    encoding: 'utf8',
  });
  t.deepEqual({ status, stdout, stderr }, { status: 69, stdout: '', stderr: LINE });
}

for (const program of ['program/vproxy.cjs', 'program/vproxy-storage.cjs', 'program/exec.cjs']) {
  test(`dist/${program} prints which Node it needs`, (t) => {
    checkRefusal(t, PROJECT_ROOT, [join('dist', program), '--version']);
  });
}

test('the single file prints which Node it needs', (t) => {
  const file = join(temporaryFolder(t), 'vproxy.cjs');
  t.is(spawnSync('node', ['packaging/bundle.mjs', file], { cwd: PROJECT_ROOT }).status, 0);
  checkRefusal(t, PROJECT_ROOT, [file, '--version']);
});

test('a clone is not set up, and nothing is installed', (t) => {
  const folder = temporaryFolder(t);
  for (const name of ['package.json', 'packaging', 'tools']) {
    cpSync(join(PROJECT_ROOT, name), join(folder, name), { recursive: true });
  }
  checkRefusal(t, folder, ['tools/setup.mjs']);
});
