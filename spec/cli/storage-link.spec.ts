/** `vproxy storage link` and `unlink`: the wrapper under a utility's name, and the files that they never touch. */
import { lstatSync, mkdirSync, readdirSync, readFileSync, readlinkSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { findWrapper } from '../../cli/commands/storage-links.js';
import { PROJECT_ROOT, temporaryFolder } from '../helpers/files.js';
import { runVproxy } from '../helpers/vproxy-process.js';

const OWN = join(PROJECT_ROOT, 'dist/program/vproxy-storage.cjs');

test.serial('a link is created, created again, and removed', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'storcli64');
  // A PATH without the programs of this machine.
  const env = { PATH: '/nonexistent' };
  const link = () => runVproxy(['storage', 'link', 'storcli64', '--folder', folder], { env });
  t.deepEqual(await link(), { code: 0, stdout: `${path} -> ${OWN}\n`, stderr: '' });
  t.is(readlinkSync(path), OWN);
  t.is((await link()).code, 0);
  t.deepEqual(readdirSync(folder), ['storcli64']);
  t.deepEqual(await runVproxy(['storage', 'unlink', 'storcli64', '--folder', folder]), {
    code: 0,
    stdout: '',
    stderr: '',
  });
  t.deepEqual(readdirSync(folder), []);
  const stderr = `vproxy: error: ${path}: no such link\n`;
  t.deepEqual(await runVproxy(['storage', 'unlink', 'storcli64', '--folder', folder]), {
    code: 69,
    stdout: '',
    stderr,
  });
});

test.serial('a file, a folder and another link stay as they are; --force replaces the file and the link', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'file'), 'precious');
  mkdirSync(join(folder, 'folder'));
  symlinkSync('/opt/vendor/storcli64', join(folder, 'link'));
  const run = (...words: string[]) => runVproxy(['storage', ...words, '--folder', folder]);
  for (const name of ['file', 'folder', 'link']) {
    const refusal = `vproxy: error: ${join(folder, name)}: already exists, and is not a link to vproxy-storage; replace it with --force\n`;
    t.deepEqual(await run('link', name), { code: 73, stdout: '', stderr: refusal });
    t.is((await run('unlink', name)).code, 69);
  }
  t.is(readFileSync(join(folder, 'file'), 'utf8'), 'precious');
  t.is(readlinkSync(join(folder, 'link')), '/opt/vendor/storcli64');
  for (const name of ['file', 'link']) t.is((await run('link', name, '--force')).code, 0);
  for (const name of ['file', 'link']) t.regex(readlinkSync(join(folder, name)), /vproxy-storage(\.cjs)?$/);
  t.is((await run('link', 'folder', '--force')).code, 73);
  t.true(lstatSync(join(folder, 'folder')).isDirectory());
  t.deepEqual(readdirSync(folder).sort(), ['file', 'folder', 'link']);
});

test.serial('a missing folder is an error, and the help names both commands', async (t) => {
  t.is((await runVproxy(['storage', 'link', 'x', '--folder', '/nonexistent'])).code, 73);
  t.regex((await runVproxy(['storage', '--help'])).stdout, /vproxy storage unlink +Remove such a link/);
});

test('the wrapper is found in PATH, else next to the program', (t) => {
  const folder = temporaryFolder(t);
  for (const part of ['bin', 'other', 'real']) mkdirSync(join(folder, part));
  const wrapper = (part: string) => {
    writeFileSync(join(folder, part, 'vproxy-storage'), '', { mode: 0o755 });
    return join(folder, part, 'vproxy-storage');
  };
  writeFileSync(join(folder, 'real/vproxy'), '');
  symlinkSync('../real/vproxy', join(folder, 'bin/vproxy'));
  const find = () =>
    findWrapper({ searchPath: `:relative:${folder}/other`, programs: ['', join(folder, 'bin/vproxy')] });
  t.throws(find, { code: 'not-found' });
  const beside = wrapper('real');
  t.is(find(), beside);
  const inPath = wrapper('other');
  t.is(find(), inPath);
});
