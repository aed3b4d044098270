/** Files and folders to the other side and back. */
import { randomBytes } from 'node:crypto';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CopyPair, describeTree, makeTree, type Tree } from '../helpers/copy-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import './failures.js';
import './folders.js';
import './looked-at.js';
import './named-paths.js';
import './root.js';

const EVERYTHING: Tree = {
  app: {
    'a.txt': 'hello',
    empty: '',
    'just a block': randomBytes(512),
    small: randomBytes(65_536),
    large: randomBytes(3_000_001),
    folder: { empty: {}, deep: { deeper: { file: 'x' } } },
    link: '->a.txt',
    'link up': '->folder/deep',
    'Grüße 🎉\n"\\': 'names',
    ['ü'.repeat(120)]: { ['long '.repeat(50)]: { ['n'.repeat(255)]: 'long path' } },
    '\u{1f600}': 'after',
    '\uffee': 'before it in UTF-16 only',
  },
};

for (const direction of ['put', 'get'] as const) {
  test(`${direction}: a tree arrives as it is, with modes and times`, async (t) => {
    const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
    makeTree(from, EVERYTHING);
    const pair = new CopyPair(t);
    const { targets, progress, warnings } = await pair[direction]([join(from, 'app')], to);
    t.deepEqual(targets, [join(to, 'app')]);
    t.deepEqual(describeTree(join(to, 'app')), describeTree(join(from, 'app')));
    t.deepEqual(readdirSync(to), ['app']);
    t.deepEqual(warnings, []);
    t.is(progress.files, 10);
    t.is(progress.links, 2);
    t.deepEqual(progress.totals, { files: 10, folders: 7, links: 2, bytes: progress.bytes });
  });

  test(`${direction}: several sources, into a folder`, async (t) => {
    const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
    makeTree(from, { b: 'b', a: { x: 'x' }, c: 'c' });
    await new CopyPair(t)[direction](
      ['c', 'a', 'b'].map((name) => join(from, name)),
      `${to}/`,
    );
    t.deepEqual(readdirSync(to).sort(), ['a', 'b', 'c']);
    t.is(readFileSync(join(to, 'a/x'), 'utf8'), 'x');
  });

  test(`${direction}: a file under another name, also in the place of one`, async (t) => {
    const folder = temporaryFolder(t);
    makeTree(folder, { a: 'new', old: 'old' });
    for (const name of ['fresh', 'old']) {
      await new CopyPair(t)[direction]([join(folder, 'a')], join(folder, name));
      t.is(readFileSync(join(folder, name), 'utf8'), 'new');
    }
  });

  test(`${direction}: a folder is put into one that is there`, async (t) => {
    const [from, to] = [temporaryFolder(t), temporaryFolder(t)];
    makeTree(from, { app: { both: 'new', only: 'x', sub: { deep: 'new', folder: { z: 'z' } } } });
    mkdirSync(join(to, 'app/sub'), { recursive: true });
    for (const name of ['both', 'kept', 'sub/kept']) writeFileSync(join(to, 'app', name), 'old');
    await new CopyPair(t)[direction]([join(from, 'app')], to);
    t.is(readFileSync(join(to, 'app/both'), 'utf8'), 'new');
    t.is(readFileSync(join(to, 'app/sub/deep'), 'utf8'), 'new');
    t.is(readFileSync(join(to, 'app/kept'), 'utf8'), 'old');
    t.is(readFileSync(join(to, 'app/sub/kept'), 'utf8'), 'old');
    t.deepEqual(readdirSync(to), ['app']);
    const lines = describeTree(join(from, 'app')).filter((line) => !line.includes('kept'));
    t.deepEqual(
      describeTree(join(to, 'app')).filter((line) => !line.includes('kept')),
      lines,
    );
  });
}
