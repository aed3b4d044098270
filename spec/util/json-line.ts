/** JSON for terminals: the same value, and nothing in it that a terminal obeys. */
import test from 'ava';
import fc from 'fast-check';
import { escapeText, formatJson, formatJsonLine } from '../../lib/util/escape.js';

const OBEYED = /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/;
const units = fc.string({
  unit: fc.oneof(
    fc.integer({ min: 0, max: 0xffff }).map(String.fromCharCode),
    fc.constantFrom('\u009b', '\u202e', '\u061c', '\u007f'),
  ),
});

test('it is the same value, whatever is in it', (t) => {
  fc.assert(
    fc.property(
      fc.record({ text: units, texts: fc.dictionary(units, units) }),
      fc.constantFrom(0, 2),
      (value, indent) => {
        const text = formatJson(value, indent);
        t.notRegex(text, OBEYED);
        t.notRegex(text, indent === 0 ? /[\u0000-\u001f]/ : /[\u0000-\u0009\u000b-\u001f]/);
        t.deepEqual(JSON.parse(text), JSON.parse(JSON.stringify(value)));
      },
    ),
  );
});

test('a text for people has none of these either', (t) => {
  fc.assert(fc.property(units, (text) => t.notRegex(escapeText(text, 1000), OBEYED)));
});

test('a long text is escaped in pieces', (t) => {
  const value = `${'x'.repeat(65_534)}\u009b\u202e${'\u009b'.repeat(200_000)}`;
  const text = formatJsonLine(value);
  t.notRegex(text, OBEYED);
  t.is(JSON.parse(text), value);
});
