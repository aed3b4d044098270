import test from 'ava';
import fc from 'fast-check';
import { findJsonFault } from '../../lib/settings/document.js';

test('a fault has its place, and what was expected there', (t) => {
  for (const [text, offset, message] of [
    ['', 0, 'the file ends, expected a value'],
    ['{"a" 3}', 5, 'expected a colon behind the key'],
    ['{"a": 3', 7, 'the file ends, expected a comma or }'],
    ['{"a": 3,}', 8, 'expected a key in quotes'],
    ['{a: 3}', 1, 'expected a key in quotes'],
    ['[1, 2 3]', 6, 'expected a comma or ]'],
    ['[1, ]', 4, 'expected a value'],
    ['[01]', 1, 'expected a value'],
    ['"\n"', 0, 'expected a value'],
    ['{} x', 3, 'expected nothing more'],
    ['{"a": 1, "b": 2, "a": 3}', 17, 'this key is there twice'],
    ['{"a": 1, "\\u0061": 3}', 9, 'this key is there twice'],
    ['['.repeat(17), 16, 'values are nested more than 16 deep'],
  ] as const) {
    t.deepEqual(findJsonFault(text, 16), { offset, message }, text);
  }
});

test('the same key may be there in different objects, and depth counts what is open', (t) => {
  t.is(findJsonFault('{"a": {"a": [{"a": 1}, {"a": 2}]}}', 16), null);
  t.is(findJsonFault(`[${'[[]],'.repeat(100)}[]]`, 4), null);
});

test('it finds a fault exactly where JSON.parse throws', (t) => {
  const pieces = fc.constantFrom(
    ...['{', '}', '[', ']', ',', ':', '"a"', '"\\n"', '"', '1', '-0.5e3', '01', 'true', 'nul', ' '],
  );
  const text = fc.oneof(
    fc.array(pieces, { maxLength: 12 }).map((list) => list.join('')),
    fc.json({ maxDepth: 5 }),
  );
  fc.assert(
    fc.property(text, (value) => {
      const fault = findJsonFault(value, 100);
      if (fault?.message === 'this key is there twice') return;
      let parses = true;
      try {
        JSON.parse(value);
      } catch {
        parses = false;
      }
      t.is(fault === null, parses, value);
    }),
    { numRuns: 2000 },
  );
});
