/** Folders as copies read and remove them: in parts, whatever their size. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { type FolderItem, FolderStack, readAny, readSorted } from '../../lib/copy/folders.js';
import { KeptLists } from '../../lib/copy/kept-list.js';
import { findSources, walkSources } from '../../lib/copy/sources.js';
import { removeTree } from '../../lib/copy/system-files.js';
import { compareNames } from '../../lib/copy/tar/names.js';
import { temporaryFolder } from '../helpers/files.js';
import { heapBytes } from '../helpers/measures.js';

const COUNT = 20_000;

/** What names in parts may take; those of a folder that is removed with all its names in memory take eight times as much. */
const MOST_BYTES = 2 * 2 ** 20;

/** A folder in memory, with so many empty files, not made in order. */
function largeFolder(): string {
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : '/tmp', 'vproxy-folders-'));
  for (let index = 0; index < COUNT; index += 1) writeFileSync(join(folder, nameOf((index * 7919) % COUNT)), '');
  return folder;
}

const nameOf = (index: number): string => `file-${'n'.repeat(40)}-${String(index).padStart(6, '0')}`;

async function namesOf(folders: FolderStack): Promise<string[]> {
  const names: string[] = [];
  for (let item = await folders.next(); item !== null; item = await folders.next()) names.push(item.name);
  return names;
}

test.serial('a large folder is walked in the order of names, and removed, without being held', async (t) => {
  const folder = largeFolder();
  t.teardown(() => rmSync(folder, { recursive: true, force: true }));
  const sources = await findSources([{ path: folder, name: 'large' }], null, new KeptLists());
  const before = await heapBytes();
  let [count, most] = [0, 0];
  for await (const { names } of walkSources(sources, () => t.fail())) {
    if (count > 0) t.is(names[1], nameOf(count - 1));
    if (count % 5000 === 1) most = Math.max(most, (await heapBytes()) - before);
    count += 1;
  }
  t.is(count, COUNT + 1);
  const removal = { isOver: false };
  const removed = removeTree(folder).finally(() => (removal.isOver = true));
  for (let turn = 0; !removal.isOver; turn += 1) {
    await setImmediate();
    if (turn % 500 === 1) most = Math.max(most, (await heapBytes()) - before);
  }
  await removed;
  t.false(existsSync(folder));
  t.log(`${most} bytes`);
  t.true(most < MOST_BYTES, `${most}`);
});

test('names that are read in parts are in order, and each comes once', async (t) => {
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

test('items before a name are given, and what has come since is not', async (t) => {
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

test('a folder that has gone is empty, and one that fills again is read again', async (t) => {
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

test('a tree of folders is removed, also of such as their owner may not write to', async (t) => {
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
