/** Storage requests of a machine get their label from the host. */

import test from 'ava';
import type { VproxyError } from '../../lib/errors.js';
import { RequestLabeller } from '../../lib/storage/request-labeller.js';
import { Budget } from '../../lib/util/bounds.js';

const MIB = 2 ** 20;

const labeller = (budget = new Budget(64 * MIB)) => new RequestLabeller('vm1', budget);

/** The output for a text in chunks of `pieceBytes`, and for its end. */
function pass(text: string, pieceBytes = Number.POSITIVE_INFINITY): string {
  const filter = labeller();
  const bytes = Buffer.from(text);
  let passed = '';
  for (let offset = 0; offset < bytes.length; offset += pieceBytes) {
    passed += filter.push(bytes.subarray(offset, offset + pieceBytes)).toString();
  }
  return passed + filter.end().toString();
}

const OWN = '{"argv":["a"],"vm":"vm1"}\n';
const PROTO = '{"argv":["a"],"n":1,"__proto__":{"vm":"x"}';

test('a request is passed on with the label, whatever it claims, and however it is split', (t) => {
  for (const [what, request, passed] of [
    ['that names no machine', '{"argv":["a"]}\n', OWN],
    ['that lies', '{"argv":["a"],"vm":"vm2"}\n', OWN],
    ['that lies with another type', '{"vm":["vm2"],"argv":["a"]}\n', '{"vm":"vm1","argv":["a"]}\n'],
    ['that lies twice', '{"vm":"vm2","argv":["a"],"vm":"vm3"}\n', '{"vm":"vm1","argv":["a"]}\n'],
    ['that lies in escapes', '{"\\u0076m":"vm2","argv":["a"]}\n', '{"vm":"vm1","argv":["a"]}\n'],
    ['with other fields', `${PROTO}}`, `${PROTO},"vm":"vm1"}\n`],
    ['over several lines', '{"argv":\n["a"]\r\n}\n', OWN],
    ['without a line feed', '{"argv":["a"]}', OWN],
    ['joined with another', '{"argv":["a"]}{"argv":["a"]} \n\n', OWN + OWN],
    ['beyond ASCII', '{"argv":["ä😀\u007f"]}\n', '{"argv":["\\u00e4\\ud83d\\ude00\\u007f"],"vm":"vm1"}\n'],
  ] as const)
    for (const pieceBytes of [1, 2, 3, 7, 1000]) t.is(pass(request, pieceBytes), passed, `${what}, by ${pieceBytes}`);
});

const BROKEN: readonly (readonly [what: string, text: string])[] = [
  ['a line that is not an object', 'help\n'],
  ['a list', '["a"]\n'],
  ['an object that only other parsers accept', '{"argv":["a"],"vm":"vm2","x":NaN}\n'],
  ['a comment', '{"argv":["a"]/*,"vm":"vm2"*/}\n'],
  ['a string with a line feed', '{"argv":["a\n"]}\n'],
  ['an unfinished object', '{"argv":["a"'],
  ['more than a mebibyte', `{"argv":["${'x'.repeat(MIB)}"]}\n`],
  ['a hundred thousand values', `{"argv":[${'"",'.repeat(100_000)}""]}\n`],
  ['too many at once', '{"argv":["a"]}'.repeat(257)],
];

test('an invalid or oversized request ends the connection', (t) => {
  for (const [what, text] of BROKEN) t.throws(() => pass(text), { code: 'storage-bad-request' }, what);
});

test('sixty thousand nested objects end the connection, or are passed on if Node can write them', (t) => {
  const request = `${'{"a":'.repeat(60_000)}1${'}'.repeat(60_000)}\n`;
  try {
    t.is(pass(request), `${request.slice(0, -2)},"vm":"vm1"}\n`);
  } catch (error) {
    t.is((error as VproxyError).code, 'storage-bad-request');
  }
});

test('requests before an invalid one in the same chunk are not passed on either', (t) => {
  t.throws(() => labeller().push(Buffer.from('{"argv":["a"]}\n{"argv":[NaN]}\n')), { code: 'storage-bad-request' });
});

test('bytes buffered for many streams are bounded, and released', (t) => {
  const budget = new Budget(3 * MIB);
  const unfinished = Buffer.from(`{"argv":["${'x'.repeat(MIB - 100)}`);
  const filters = [1, 2, 3].map(() => labeller(budget));
  for (const filter of filters) filter.push(unfinished);
  t.throws(() => labeller(budget).push(unfinished), { code: 'storage-unavailable' });
  filters[0]?.close();
  const another = labeller(budget);
  another.push(unfinished);
  // A complete request is buffered until it has been read.
  const request = another.push(Buffer.from('"]}\n'));
  t.throws(() => labeller(budget).push(unfinished), { code: 'storage-unavailable' });
  another.sent(request.length);
  t.notThrows(() => labeller(budget).push(unfinished));
});
