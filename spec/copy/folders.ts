/** How copies read and remove folders: in parts, whatever their size. */
import {
  chmodSync,
  Dir,
  existsSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { type FolderItem, FolderStack, readAny, readItems, readSorted } from '../../lib/services/copy/folders.js';
import { removeTree } from '../../lib/services/copy/staging/remove.js';
import { compareNames } from '../../lib/services/copy/tar/names.js';
import { temporaryFolder, withoutKinds } from '../helpers/files.js';

async function namesOf(folders: FolderStack): Promise<string[]> {
  const names: string[] = [];
  for (let item = await folders.next(); item !== null; item = await folders.next()) names.push(item.name);
  return names;
}

test('names read in parts are sorted, and each comes once', async (t) => {
  const folder = temporaryFolder(t);
  const names = Array.from(
    { length: 700 },
    (_, index) => `${index % 7 === 0 ? '\u{1f600}' : '\uffee'}${(index * 31) % 700}`,
  );
  for (const name of names) writeFileSync(join(folder, name), '');
  const few = new FolderStack((path, after) => readSorted(path, after, 10_000));
  few.push(folder);
  t.deepEqual(await namesOf(few), names.toSorted(compareNames));
  const one = new FolderStack((path, after) => readSorted(path, after, 0));
  one.push(folder);
  t.is((await one.next())?.name, names.toSorted(compareNames)[0]);
});

test.serial('the event loop never waits for a folder', async (t) => {
  const folder = temporaryFolder(t);
  writeFileSync(join(folder, 'a'), '');
  const before = Object.getOwnPropertyDescriptor(Dir.prototype, 'readSync');
  Dir.prototype.readSync = () => t.fail();
  t.teardown(() => Object.defineProperty(Dir.prototype, 'readSync', before ?? {}));
  const names: string[] = [];
  await readItems(folder, ({ name }) => names.push(name));
  t.deepEqual(names, ['a']);
});

test.serial('names are right where the file system does not tell kinds, and one that is gone hides none', async (t) => {
  const folder = temporaryFolder(t);
  const make = (name: string): void => writeFileSync(Buffer.from(`${folder}/${name}`, 'latin1'), '');
  withoutKinds(t);
  const names = async (): Promise<string[]> => {
    const folders = new FolderStack(readSorted);
    folders.push(folder);
    return namesOf(folders);
  };
  for (const name of ['a', 'caf\xc3\xa9']) make(name);
  t.deepEqual(await names(), ['a', 'caf\u00e9']);
  make('\xff');
  await t.throwsAsync(names(), { code: 'copy-refused', message: /name is not UTF-8/ });
  rmSync(Buffer.from(`${folder}/\xff`, 'latin1'));
  make('gone');
  await t.throwsAsync(names(), { code: 'ENOENT' });
});

test('items before a name are returned, later additions are not', async (t) => {
  const folder = temporaryFolder(t);
  const make = (name: string): void => writeFileSync(join(folder, name), '');
  for (const name of ['a', 'c', 'e', 'x', 'y']) make(name);
  const folders = new FolderStack((path, after) => readSorted(path, after, 0));
  folders.push(folder);
  const before = async (name: string): Promise<string[]> => {
    const given: string[] = [];
    for (let item: FolderItem | null; (item = await folders.nextBefore(name)) !== null; ) given.push(item.name);
    return given;
  };
  t.deepEqual(await before('c'), ['a']);
  for (const name of ['d', 'f']) {
    t.deepEqual(await before(name), name === 'f' ? ['e'] : []);
    make(name);
  }
  t.deepEqual(await namesOf(folders), ['x', 'y']);
});

test('a removed folder is empty, and one that fills again is read again', async (t) => {
  const folder = temporaryFolder(t);
  const folders = new FolderStack(readAny);
  folders.push(join(folder, 'gone'));
  t.is(await folders.next(), null);
  t.false(folders.reread());
  folders.pop();
  writeFileSync(join(folder, 'a'), '');
  folders.push(folder);
  t.deepEqual(await namesOf(folders), ['a']);
  t.true(folders.reread());
  t.deepEqual(await namesOf(folders), ['a']);
});

test('a tree is removed, including folders that their owner may not write to', async (t) => {
  const top = join(temporaryFolder(t), 'top');
  for (let folder = top, depth = 0; depth < 60; depth += 1, folder = join(folder, 'd')) {
    mkdirSync(folder);
    for (const name of ['a', 'z']) writeFileSync(join(folder, name), 'x');
    mkdirSync(join(folder, 'e'));
  }
  for (const path of ['d/d/e', 'd/d', '.']) chmodSync(join(top, path), 0o500);
  await removeTree(top);
  t.false(existsSync(top));
  await removeTree(top);
});

test('a folder that gives its place to a link while it is removed leads nowhere', async (t) => {
  const [top, outside] = [join(temporaryFolder(t), 'top'), temporaryFolder(t)];
  const sub = join(top, 'sub');
  mkdirSync(sub, { recursive: true });
  const names = Array.from({ length: 3000 }, (_, index) => `file${index}`);
  for (const folder of [sub, outside]) for (const name of names) writeFileSync(join(folder, name), '');
  const removal = { isOver: false };
  const removed = removeTree(top)
    .catch(() => undefined)
    .finally(() => (removal.isOver = true));
  while (readdirSync(sub).length === names.length) await setImmediate();
  renameSync(sub, join(top, 'aside'));
  symlinkSync(outside, sub);
  t.false(removal.isOver);
  await removed;
  t.is(readdirSync(outside).length, names.length);
});
