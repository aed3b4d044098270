/** Copies files and folders to the peer and back. */
import { randomBytes } from 'node:crypto';
import { lutimesSync, readdirSync, readFileSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { copyScene, describeTree, farSide, makeTree, type Tree } from '../helpers/copy-pair.js';

const test = farSide.testWith();

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
  test(`${direction}: a tree arrives unchanged, with modes and times`, async (t) => {
    const { from, to, pair, sources } = copyScene(t, EVERYTHING);
    const { targets, progress, warnings } = await pair[direction](sources('app'), to);
    t.deepEqual(targets, [join(to, 'app')]);
    t.deepEqual(describeTree(join(to, 'app')), describeTree(join(from, 'app')));
    t.deepEqual(readdirSync(to), ['app']);
    t.deepEqual(warnings, []);
    t.is(progress.files, 10);
    t.is(progress.links, 2);
    t.deepEqual(progress.totals, { files: 10, folders: 7, links: 2, bytes: progress.bytes });
  });

  test(`${direction}: times before 1970 and after 2038 are kept`, async (t) => {
    const { from, to, pair, sources } = copyScene(t, { app: {} });
    // 1901, 1969, 2038, 2100, 2242 and 2446, as far as the file systems go; Node takes a negative number for now, but not its text.
    const times = [
      '-2147483648',
      '-1.5',
      '-0.000001',
      '0',
      '2147483648.25',
      '4102444800.5',
      '8589934592',
      '15032385534.75',
    ];
    const make: Record<string, string | Tree> = {};
    for (const time of times)
      Object.assign(make, { [`file ${time}`]: 'x', [`folder ${time}`]: {}, [`link ${time}`]: '->x' });
    makeTree(join(from, 'app'), make);
    for (const time of times) {
      utimesSync(join(from, 'app', `file ${time}`), time, time);
      utimesSync(join(from, 'app', `folder ${time}`), time, time);
      lutimesSync(join(from, 'app', `link ${time}`), time, time);
    }
    const wanted = describeTree(join(from, 'app'));
    for (const time of ['-1500000', '-1', '4102444800500000'])
      t.is(wanted.filter((line) => line.split(' ').includes(time)).length, 3);
    await pair[direction](sources('app'), to);
    t.deepEqual(describeTree(join(to, 'app')), wanted);
    await pair[direction](sources('app'), to);
    t.deepEqual(describeTree(join(to, 'app')), wanted, 'merged');
  });

  test(`${direction}: several sources into a folder; a file under a new name, also over another`, async (t) => {
    const { to, pair, sources } = copyScene(t, { b: 'b', a: { x: 'x' }, c: 'c' });
    await pair[direction](sources('c', 'a', 'b'), `${to}/`);
    t.deepEqual(readdirSync(to).sort(), ['a', 'b', 'c']);
    t.is(readFileSync(join(to, 'a/x'), 'utf8'), 'x');
    for (const name of ['fresh', 'c']) {
      await pair[direction](sources('b'), join(to, name));
      t.is(readFileSync(join(to, name), 'utf8'), 'b');
    }
  });

  test(`${direction}: a folder is merged into an existing one`, async (t) => {
    const tree = { app: { both: 'new', only: 'x', sub: { deep: 'new', folder: { z: 'z' } } } };
    const { from, to, pair, sources } = copyScene(t, tree);
    makeTree(to, { app: { both: 'old', kept: 'old', sub: { kept: 'old' } } });
    await pair[direction](sources('app'), to);
    for (const name of ['kept', 'sub/kept']) t.is(readFileSync(join(to, 'app', name), 'utf8'), 'old');
    t.deepEqual(readdirSync(to), ['app']);
    const copied = describeTree(join(to, 'app')).filter((line) => !line.includes('kept'));
    t.deepEqual(copied, describeTree(join(from, 'app')));
  });
}
