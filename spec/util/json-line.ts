/** JSON for terminals: the same value, without anything that a terminal obeys. */
import test from 'ava';
import fc from 'fast-check';
import { formatJson, formatJsonLine } from '../../lib/util/escape.js';

const OBEYED = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/;
const units = fc.string({
  unit: fc.oneof(
    fc.integer({ min: 0, max: 0xffff }).map(String.fromCharCode),
    fc.constantFrom('\u009b', '\u202e', '\u061c', '\u007f'),
  ),
});

test('any value is preserved', (t) => {
  const value = fc.record({ text: units, texts: fc.dictionary(units, units) });
  const property = fc.property(value, fc.constantFrom(0, 2), (given, indent) => {
    const text = formatJson(given, indent);
    t.notRegex(text, OBEYED);
    t.is(text.includes('\n'), indent > 0);
    t.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(given)));
  });
  t.notThrows(() => fc.assert(property));
});

test('a long text is escaped in pieces', (t) => {
  const value = `${'x'.repeat(65_534)}\u009b\u202e${'\u009b'.repeat(200_000)}`;
  const text = formatJsonLine(value);
  t.notRegex(text, OBEYED);
  t.is(JSON.parse(text), value);
});
