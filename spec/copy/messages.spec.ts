/** What is said in a copy: the way there and back, and what is refused. */
import test from 'ava';
import {
  COPY_KIND,
  decodeError,
  decodePlan,
  decodeReady,
  decodeStaged,
  decodeStart,
  decodeWarning,
  encodeError,
  encodeMessage,
  MAX_PATH_BYTES,
} from '../../lib/copy/messages.js';
import { VproxyError } from '../../lib/errors.js';
import { RECORD_HEADER_BYTES } from '../../lib/util/records.js';

const payload = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const put = { direction: 'put', target: '/a', isResumed: false };
const get = { direction: 'get', sources: [{ path: '/a/b', name: 'b' }], isResumed: true, hasTotals: false };
const plan = { roots: [{ name: 'a', kind: 'file' }], totals: { files: 1, folders: 0, links: 0, bytes: 5 } };

test('messages survive the way, without fields that are not known', (t) => {
  for (const start of [put, get]) t.deepEqual(decodeStart(payload({ ...start, more: 1 })), start as never);
  for (const one of [plan, { ...plan, totals: null }])
    t.deepEqual(decodePlan(payload({ ...one, more: 1 })), one as never);
  const [file] = decodeStaged(payload({ files: [['a/b', 5, 'ff']] }));
  t.deepEqual(file, ['a/b', 5, 'ff']);
  t.deepEqual(decodeReady(payload({ targets: ['/a'] })), ['/a']);
  t.is(decodeWarning(payload({ message: 'a\u001b' })), 'a\\x1b');
  const record = encodeError(new VproxyError('copy-failed', 'x\n'.repeat(20_000)));
  const error = decodeError(record.subarray(RECORD_HEADER_BYTES));
  t.is(error.code, 'copy-failed');
  t.true(error.message.length < 20_000);
  t.false(error.message.includes('\n'));
});

test('what does not fit into a record is refused at its own side', (t) => {
  const targets = Array.from({ length: 10_000 }, () => `/${'x'.repeat(200)}`);
  t.throws(() => encodeMessage(COPY_KIND.READY, { targets }), { code: 'bad-argument' });
});

const START_CHANGES = [
  { direction: 'move' },
  { isResumed: 1 },
  { sources: [] },
  { sources: [{ path: 'a', name: 'a' }] },
  { sources: [{ path: '/a', name: '..' }] },
  { sources: [{ path: '/a', name: 'a/b' }] },
  { sources: [{ path: '/a\0', name: 'a' }] },
  { sources: [{ path: `/${'a'.repeat(MAX_PATH_BYTES)}`, name: 'a' }] },
  { sources: Array.from({ length: 10_001 }, () => ({ path: '/a', name: 'a' })) },
  { hasTotals: null },
];

test('what is not valid is refused', (t) => {
  const protocolError = { code: 'protocol-error' };
  for (const change of START_CHANGES) t.throws(() => decodeStart(payload({ ...get, ...change })), protocolError);
  for (const target of [1, 'a', '', '/\0']) t.throws(() => decodeStart(payload({ ...put, target })), protocolError);
  for (const change of [
    { roots: [] },
    { roots: {} },
    { totals: 1 },
    { totals: { ...plan.totals, bytes: -1 } },
    { totals: {} },
  ]) {
    t.throws(() => decodePlan(payload({ ...plan, ...change })), protocolError);
  }
  for (const files of [1, [1], [['a', -1, '']], [['a', 1.5, '']], [['a', 1, 2]], [[1, 1, '']]]) {
    t.throws(() => decodeStaged(payload({ files })), protocolError);
  }
  t.throws(() => decodeReady(payload({ targets: [1] })), protocolError);
  t.throws(() => decodeWarning(payload({})), protocolError);
  for (const error of [{ code: 'A', message: '' }, { code: 'a' }, { message: '' }]) {
    t.throws(() => decodeError(payload(error)), protocolError);
  }
  for (const text of ['', '[]', 'null', '{']) t.throws(() => decodeStart(Buffer.from(text)), protocolError);
});
