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
  const inside = ['0 a', '0 ./a/b', '1 ..', '1 ../a', '2 ../../a', '2 .././../a/', '0 a..b/...', '0 .'];
  const outside = ['5 ', '5 /', '5 /a', '0 ..', '0 ../a', '1 ../..', '5 a/..', '5 ../a/../b', '5 a\0'];
  for (const text of [...inside, ...outside]) {
    t.is(isLinkInside(text.slice(2), Number(text[0])), inside.includes(text), text);
  }
});
