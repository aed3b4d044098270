/** The scanner: where messages end, however their bytes were split. */
import test from 'ava';
import fc from 'fast-check';
import { VproxyError } from '../../../lib/errors.js';
import { JsonScanner, MAX_SIGNS } from '../../../lib/util/bytes/json-scanner.js';
import { searchRuns } from '../../helpers/searches.js';

/** The result of a scanner for these chunks: its messages, then `error` if it threw. */
function scan(chunks: readonly Uint8Array[], maxBytes = 1000): string[] {
  const scanner = new JsonScanner(maxBytes, 'storage-bad-request', 'it');
  const messages: string[] = [];
  const add = (message: Buffer | undefined) => message && messages.push(message.toString('latin1'));
  try {
    for (const chunk of chunks) {
      scanner.push(chunk);
      for (let message = scanner.next(); message; message = scanner.next()) add(message);
    }
    add(scanner.end());
  } catch (error) {
    if (!(error instanceof VproxyError) || error.code !== 'storage-bad-request') throw error;
    messages.push('error');
  }
  return messages;
}

test('messages end where they should', (t) => {
  for (const [text, messages] of [
    ['', []],
    [' \r\n\t\n', []],
    ['{"argv":["a"]}', ['{"argv":["a"]}']],
    ['{"argv":["a"]}\n', ['{"argv":["a"]}']],
    ['{"a":1}{"b":2}', ['{"a":1}', '{"b":2}']],
    ['{"a":1}\n\n {"b":2}\r\n', ['{"a":1}', '{"b":2}']],
    ['{\n "a": {\n "b": [{}] }\n}\n', ['{\n "a": {\n "b": [{}] }\n}']],
    ['{"a":"}{\\"}\\\\"}x\n', ['{"a":"}{\\"}\\\\"}', 'x']],
    ['hello\n{"a":1}\n', ['hello', '{"a":1}']],
    ['{"a":"broken\n{"b":2}', ['{"a":"broken', '{"b":2}']],
    ['{"a":"broken\\\n{"b":2}', ['{"a":"broken\\', '{"b":2}']],
    ['{"a":[', ['{"a":[']],
    ['[1]\n', ['[1]']],
  ] as const) {
    t.deepEqual(scan([Buffer.from(text)]), messages, JSON.stringify(text));
  }
});

test('a message at the limit passes, and one byte more does not', (t) => {
  const object = (bytes: number) => Buffer.from(`{"a":"${'x'.repeat(bytes - 8)}"}`);
  t.deepEqual(scan([object(100)], 100), [object(100).toString()]);
  t.deepEqual(scan([object(101)], 100), ['error']);
  t.deepEqual(scan([Buffer.from('{'), Buffer.alloc(200, 0x20)], 100), ['error']);
  t.deepEqual(scan([Buffer.alloc(101, 0x61)], 100), ['error']);
  t.deepEqual(scan([Buffer.alloc(5000, 0x20), object(100)], 100), [object(100).toString()]);
});

test('an object with too many commas, braces and brackets is refused, whatever they are in', (t) => {
  const signs = (count: number): string => `{"a":[${'1,'.repeat(count - 2)}1]}`;
  const count = (text: string): number => scan([Buffer.from(text)], 1_000_000).length;
  const isRefused = (text: string): boolean => scan([Buffer.from(text)], 1_000_000)[0] === 'error';
  t.false(isRefused(signs(MAX_SIGNS)));
  t.true(isRefused(signs(MAX_SIGNS + 1)));
  t.true(isRefused(`{"a":[${'{},'.repeat(MAX_SIGNS)}`));
  t.is(count(`{"a":"${',[{'.repeat(MAX_SIGNS)}"}`.repeat(2)), 2, 'those in a text do not count');
  t.is(count('{"a":[1,1,1]}\n'.repeat(MAX_SIGNS / 2)), MAX_SIGNS / 2, 'each message has its own');
});

test('an object nested deeper than 1000 is refused: JSON.parse would take 20 ms for 64 KiB of brackets', (t) => {
  const isRefused = (text: string): boolean => scan([Buffer.from(text)], 1_000_000)[0] === 'error';
  const nested = (open: string, close: string, levels: number): string =>
    `{"a":${open.repeat(levels)}1${close.repeat(levels)}}`;
  for (const [open, close] of [
    ['[', ']'],
    ['{"a":', '}'],
  ] as const) {
    t.false(isRefused(nested(open, close, 999)), open);
    t.true(isRefused(nested(open, close, 1000)), open);
  }
  t.false(isRefused(`{"a":[${'[[]],'.repeat(10_000)}1]}`), 'what is closed does not count');
});

test('a scanner is empty only between messages', (t) => {
  const scanner = new JsonScanner(100, 'storage-bad-reply', 'it');
  t.true(scanner.isEmpty);
  scanner.push(Buffer.from('{"a":1}\n {'));
  t.truthy(scanner.next());
  t.is(scanner.next(), undefined);
  t.false(scanner.isEmpty);
  scanner.push(Buffer.from('}\n'));
  t.truthy(scanner.next());
  t.is(scanner.next(), undefined);
  t.true(scanner.isEmpty);
});

/** Where messages end, one byte after the other. */
function split(text: string): string[] {
  const messages: string[] = [];
  let [held, state, depth] = ['', 'between', 0];
  for (const sign of text) {
    if (state === 'between' && ' \t\r\n'.includes(sign)) continue;
    const endsLine = sign === '\n' && (state === 'line' || state === 'string' || state === 'escape');
    if (!endsLine) held += sign;
    if (state === 'between') [state, depth] = [sign === '{' ? 'object' : 'line', 1];
    else if (state === 'string') state = { '"': 'object', '\\': 'escape' }[sign] ?? 'string';
    else if (state === 'escape') state = 'string';
    else if (state === 'object' && sign === '"') state = 'string';
    else if (state === 'object') depth += { '{': 1, '}': -1 }[sign] ?? 0;
    if (!endsLine && !(state === 'object' && depth === 0)) continue;
    messages.push(held);
    [held, state] = ['', 'between'];
  }
  return held === '' ? messages : [...messages, held];
}

test('any text has the same messages as one byte after the other, in any pieces', (t) => {
  const pieces = fc.array(fc.string({ unit: fc.constantFrom(...Array.from('{}"\\\n ax')) }), { maxLength: 12 });
  fc.assert(
    fc.property(pieces, (texts) => {
      const chunks = texts.map((text) => Buffer.from(text));
      t.deepEqual(scan(chunks, 1_000_000), split(texts.join('')));
    }),
    { numRuns: searchRuns(3000) },
  );
});
