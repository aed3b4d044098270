/** Names, their order, and links. */
import test from 'ava';
import fc from 'fast-check';
import { compareNames, isLinkInside, isPlainName } from '../../lib/copy/tar/names.js';

test('the order of names is that of their bytes', (t) => {
  const name = fc.string({ unit: 'grapheme', maxLength: 4 });
  fc.assert(
    fc.property(name, name, (a, b) => {
      t.is(Math.sign(compareNames(a, b)), Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b))));
    }),
    { examples: [['\uffee', '\u{1f600}']] },
  );
});

test('a plain name is one file in a folder', (t) => {
  for (const name of ['a', '...', '.a', ' ', '\n', '\\', 'ü']) t.true(isPlainName(name), name);
  for (const name of ['', '.', '..', 'a/b', '/', 'a\0', 1, null, undefined]) t.false(isPlainName(name), String(name));
});

test('a link stays inside where it goes up no further than its folder is deep, and only at its beginning', (t) => {
  const inside: [string, number][] = [
    ['a', 0],
    ['./a/b', 0],
    ['..', 1],
    ['../a', 1],
    ['../../a', 2],
    ['.././../a/', 2],
    ['a..b/...', 0],
    ['.', 0],
  ];
  const outside: [string, number][] = [
    ['', 5],
    ['/', 5],
    ['/a', 5],
    ['..', 0],
    ['../a', 0],
    ['../..', 1],
    ['a/..', 5],
    ['../a/../b', 5],
    ['a\0', 5],
  ];
  for (const [target, depth] of inside) t.true(isLinkInside(target, depth), target);
  for (const [target, depth] of outside) t.false(isLinkInside(target, depth), target);
});
