import test from 'ava';
import fc from 'fast-check';
import { findJsonFault } from '../../lib/settings/document.js';

const finds = test.macro({
  title: (_, text: string) => `the fault in ${JSON.stringify(text)}`,
  exec: (t, text: string, offset: number, message: string) => t.deepEqual(findJsonFault(text, 16), { offset, message }),
});

test(finds, '', 0, 'the file ends, expected a value');
test(finds, '{"a" 3}', 5, 'expected a colon behind the key');
test(finds, '{"a": 3', 7, 'the file ends, expected a comma or }');
test(finds, '{"a": 3,}', 8, 'expected a key in quotes');
test(finds, '{a: 3}', 1, 'expected a key in quotes');
test(finds, '[1, 2 3]', 6, 'expected a comma or ]');
test(finds, '[1, ]', 4, 'expected a value');
test(finds, '[01]', 1, 'expected a value');
test(finds, '"\n"', 0, 'expected a value');
test(finds, '{} x', 3, 'expected nothing more');
test(finds, '{"a": 1, "b": 2, "a": 3}', 17, 'this key is there twice');
test(finds, '{"a": 1, "\\u0061": 3}', 9, 'this key is there twice');
test(finds, '['.repeat(17), 16, 'values are nested more than 16 deep');

test('the same key may be there in different objects, and depth counts what is open', (t) => {
  t.is(findJsonFault('{"a": {"a": [{"a": 1}, {"a": 2}]}}', 16), null);
  t.is(findJsonFault(`[${'[[]],'.repeat(100)}[]]`, 4), null);
});

test('it finds a fault exactly where JSON.parse throws', (t) => {
  const pieces = fc.constantFrom(
    '{',
    '}',
    '[',
    ']',
    ',',
    ':',
    '"a"',
    '"\\n"',
    '"',
    '1',
    '-0.5e3',
    '01',
    'true',
    'nul',
    ' ',
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
