import {
  chmodSync,
  chownSync,
  closeSync,
  copyFileSync,
  fstatSync,
  lchownSync,
  mkdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { openSafe, requireSafe } from '../../cli/upgrade/program.js';
import { temporaryFolder } from '../helpers/files.js';

const OTHER_USER = 12_345;

/** A program in a folder, both of which only their owner may write. */
function programOf(t: ExecutionContext): { readonly folder: string; readonly program: string } {
  const folder = join(temporaryFolder(t), 'folder');
  mkdirSync(folder, { mode: 0o755 });
  const program = join(folder, 'program');
  writeFileSync(program, '', { mode: 0o755 });
  return { folder, program };
}

test('a program is run that only root and the user can have put there', (t) => {
  const { program } = programOf(t);
  t.notThrows(() => requireSafe(program));
});

test('a program that others can write is not run', (t) => {
  const { program } = programOf(t);
  const refusal = { code: 'upgrade-failed', message: /\/program can be written by other users$/ };
  chmodSync(program, 0o757);
  t.throws(() => requireSafe(program), refusal);
  if (process.getuid?.() !== 0) return;
  chmodSync(program, 0o775);
  chownSync(program, 0, OTHER_USER);
  t.throws(() => requireSafe(program), refusal);
});

test('a program in a folder that others can write is not run, unless they can replace nothing in it', (t) => {
  const { folder, program } = programOf(t);
  chmodSync(folder, 0o777);
  t.throws(() => requireSafe(program), { message: /\/folder can be written by other users$/ });
  chmodSync(folder, 0o1777);
  t.notThrows(() => requireSafe(program));
});

test('a link is not run that leads to, or goes through, what others can write', (t) => {
  const safe = programOf(t);
  const open = programOf(t);
  chmodSync(open.folder, 0o777);
  symlinkSync(open.program, join(safe.folder, 'to-open'));
  t.throws(() => requireSafe(join(safe.folder, 'to-open')), { message: /\/folder can be written by other users$/ });
  symlinkSync(safe.program, join(open.folder, 'to-safe'));
  t.throws(() => requireSafe(join(open.folder, 'to-safe')), { message: /\/folder can be written by other users$/ });
});

test("another user's program is not run, and root's is", (t) => {
  if (process.getuid?.() !== 0) {
    t.throws(() => requireSafe(programOf(t).program, OTHER_USER), { message: /belongs to another user/ });
    return;
  }
  const { program } = programOf(t);
  t.notThrows(() => requireSafe(program, OTHER_USER));
  chownSync(program, OTHER_USER, 0);
  t.throws(() => requireSafe(program), { message: /\/program belongs to another user \(12345\)$/ });
  t.notThrows(() => requireSafe(program, OTHER_USER));
});

test('what is not there is not run', (t) => {
  t.throws(() => requireSafe(join(temporaryFolder(t), 'missing')), { code: 'upgrade-failed', message: /no such file/ });
});

test("another user's link is not followed, also in a folder where nobody can replace it", (t) => {
  if (process.getuid?.() !== 0) {
    t.pass('only root gives a link away');
    return;
  }
  const { folder, program } = programOf(t);
  const shared = join(folder, 'shared');
  mkdirSync(shared);
  chmodSync(shared, 0o1777);
  const [link, linkToFolder] = [join(shared, 'link'), join(shared, 'folder')];
  symlinkSync('../program', link);
  symlinkSync(folder, linkToFolder);
  t.is(requireSafe(link).path, program);
  t.is(requireSafe(`${linkToFolder}/shared/../program`).path, program);
  lchownSync(link, OTHER_USER, OTHER_USER);
  lchownSync(linkToFolder, OTHER_USER, OTHER_USER);
  t.throws(() => requireSafe(link), { message: /\/link belongs to another user \(12345\)$/ });
  t.throws(() => requireSafe(`${linkToFolder}/program`), { message: /\/folder belongs to another user \(12345\)$/ });
});

test('links that lead in a circle are not followed for ever', (t) => {
  const { folder } = programOf(t);
  symlinkSync('circle', join(folder, 'circle'));
  t.throws(() => requireSafe(join(folder, 'circle')), { message: /too many links$/ });
});

test('a program is run by the descriptor that was checked, and a script by its path', (t) => {
  const { folder, program } = programOf(t);
  writeFileSync(program, '#!/bin/sh\n');
  t.is(openSafe(program), null);
  t.throws(() => openSafe(folder), { message: /is no file$/ });
  copyFileSync('/bin/true', program);
  const fd = openSafe(program);
  if (fd === null) throw new Error('a program of the system is not run by its descriptor');
  t.is(fstatSync(fd).ino, statSync(program).ino);
  closeSync(fd);
});
