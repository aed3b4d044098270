/** The messages of a copy, encoded and decoded, and invalid ones; and their order, with the bytes of the tar. */
import { once } from 'node:events';
import { Duplex } from 'node:stream';
import test from 'ava';
import { VproxyError } from '../../lib/errors.js';
import {
  COPY_KIND,
  decodeCompared,
  decodeError,
  decodePlan,
  decodeReady,
  decodeStaged,
  decodeStart,
  decodeWarning,
  encodeError,
  encodeMessage,
} from '../../lib/services/copy/copy-messages.js';
import { RecordStream } from '../../lib/services/copy/record-stream.js';
import { MAX_PATH_BYTES } from '../../lib/services/copy/tar/names.js';
import { encodeRecord, RECORD_HEADER_BYTES } from '../../lib/util/bytes/records.js';

/** A SHA-256 as in a STAGED. */
const HASH = '0123456789abcdef'.repeat(4);

const payload = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const put = { direction: 'put', target: '/a', isResumed: false, isComparisonTold: false, keepsLinks: false };
const get = {
  direction: 'get',
  sources: [{ path: '/a/b', name: 'b' }],
  isResumed: true,
  isComparisonTold: true,
  keepsLinks: true,
  hasTotals: false,
};
const plan = { roots: [{ name: 'a', kind: 'file' }], totals: { files: 1, folders: 0, links: 0, bytes: 5 } };

test('messages survive a round trip, without unknown fields', (t) => {
  for (const start of [put, get]) t.deepEqual(decodeStart(payload({ ...start, more: 1 })), start as never);
  const older = { direction: put.direction, target: put.target, isResumed: put.isResumed };
  t.deepEqual(decodeStart(payload(older)), put as never, 'an older caller says nothing of it');
  t.deepEqual(decodeCompared(payload({ bytes: 1, totalBytes: 2, more: 1 })), { bytes: 1, totalBytes: 2 });
  for (const one of [plan, { ...plan, totals: null }])
    t.deepEqual(decodePlan(payload({ ...one, more: 1 })), one as never);
  const [file] = decodeStaged(payload({ files: [['a/b', 5, HASH]] }));
  t.deepEqual(file, ['a/b', 5, HASH]);
  t.deepEqual(decodeReady(payload({ targets: ['/a'] })), ['/a']);
  t.is(decodeWarning(payload({ message: 'a\u001b' })), 'a\\x1b');
  const record = encodeError(new VproxyError('copy-failed', 'x\n'.repeat(20_000)));
  const error = decodeError(record.subarray(RECORD_HEADER_BYTES));
  t.is(error.code, 'copy-failed');
  t.true(error.message.length < 20_000);
  t.false(error.message.includes('\n'));
});

test('a message too long for a record is refused by its sender', (t) => {
  const targets = Array.from({ length: 10_000 }, () => `/${'x'.repeat(200)}`);
  t.throws(() => encodeMessage(COPY_KIND.READY, { targets }), { code: 'bad-argument' });
});

const START_CHANGES = [
  { direction: 'move' },
  { isResumed: 1 },
  { sources: [] },
  { sources: [{ path: 1, name: 'a' }] },
  { sources: [{ path: '/a', name: '..' }] },
  { sources: [{ path: '/a', name: 'a/b' }] },
  { sources: [{ path: '/a\0', name: 'a' }] },
  { sources: [{ path: '/a\ud83d', name: 'a' }] },
  { sources: [{ path: '/a', name: '\udc8d' }] },
  { sources: [{ path: `/${'a'.repeat(MAX_PATH_BYTES)}`, name: 'a' }] },
  { sources: Array.from({ length: 10_001 }, () => ({ path: '/a', name: 'a' })) },
  { hasTotals: null },
  { isComparisonTold: 1 },
  { keepsLinks: 'yes' },
];

test('invalid messages are refused', (t) => {
  const protocolError = { code: 'protocol-error' };
  for (const change of START_CHANGES) t.throws(() => decodeStart(payload({ ...get, ...change })), protocolError);
  for (const target of [1, null, '\0', '/a\udcff', 'a'.repeat(MAX_PATH_BYTES + 1)])
    t.throws(() => decodeStart(payload({ ...put, target })), protocolError);
  const negative = { totals: { ...plan.totals, bytes: -1 } };
  for (const change of [{ roots: [] }, { roots: {} }, { totals: 1 }, negative, { totals: {} }]) {
    t.throws(() => decodePlan(payload({ ...plan, ...change })), protocolError);
  }
  const hashes = [2, HASH.replace('f', 'F'), HASH.replace('f', 'g')].map((hash) => ['a', 1, hash]);
  for (const file of [1, ['a', -1, HASH], ['a', 1.5, HASH], [1, 1, HASH], ...hashes]) {
    t.throws(() => decodeStaged(payload({ files: [file] })), protocolError);
  }
  t.throws(() => decodeStaged(payload({ files: 1 })), protocolError);
  for (const compared of [{}, { bytes: -1, totalBytes: 1 }, { bytes: 1, totalBytes: '1' }]) {
    t.throws(() => decodeCompared(payload(compared)), protocolError);
  }
  t.throws(() => decodeReady(payload({ targets: [1] })), protocolError);
  t.throws(() => decodeWarning(payload({})), protocolError);
  for (const error of [{ code: 'A', message: '' }, { code: 'a' }, { message: '' }]) {
    t.throws(() => decodeError(payload(error)), protocolError);
  }
  for (const text of ['', '[]', 'null', '{']) t.throws(() => decodeStart(Buffer.from(text)), protocolError);
  for (const target of ['\ud800', '\xff']) {
    const bytes = Buffer.from(JSON.stringify({ ...put, target }), 'latin1');
    t.throws(() => decodeStart(bytes), { message: /^copy: START (?:is not UTF-8|has half a surrogate pair)$/ });
  }
});

test('a name and a hash have their lengths, and an error has both numbers', (t) => {
  const staged = (name: string, hash: string) => (): unknown => decodeStaged(payload({ files: [[name, 1, hash]] }));
  const protocolError = (message: string) => ({ code: 'protocol-error', message: `copy: ${message}` });
  t.notThrows(staged('n'.repeat(4096), HASH));
  t.throws(staged('n'.repeat(4097), HASH), protocolError('STAGED: name too long: 4097 bytes (max 4096)'));
  t.throws(staged('\u00e9'.repeat(2049), HASH), protocolError('STAGED: name too long: 4098 bytes (max 4096)'));
  for (const hash of [HASH.slice(1), `${HASH}0`, '', 'f'.repeat(70)]) {
    t.throws(staged('a', hash), protocolError(`STAGED: hash of ${hash.length} characters, expected 64`));
  }
  const ready = (target: string) => (): unknown => decodeReady(payload({ targets: [target] }));
  t.notThrows(ready('/'.repeat(4096)));
  t.throws(ready('/'.repeat(4097)), protocolError('READY: path too long: 4097 bytes (max 4096)'));
  const longName = { name: 'n'.repeat(4097), kind: 'file' };
  t.throws(() => decodePlan(payload({ ...plan, roots: [longName] })), { code: 'protocol-error' });
});

test('texts declared safe to show are', (t) => {
  const text = '/a\u001b[2J\u009b\u202e\n';
  t.deepEqual(decodeReady(payload({ targets: [text] })), ['/a\\x1b[2J\\x9b\\u{202e}\\n']);
  t.is(decodeWarning(payload({ message: text })), '/a\\x1b[2J\\x9b\\u{202e}\\n');
  t.regex(decodeError(payload({ code: 'a', message: text })).message, /\/a\\x1b\[2J\\x9b\\u\{202e\}\\n$/);
});

test('what the peer said last is read before its end counts, also while its bytes wait', async (t) => {
  const here = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
  const records = new RecordStream(here);
  const held = new Promise<string>((resolve) => {
    records.onData = (piece) => {
      resolve(piece.toString());
      return false;
    };
  });
  const last = [encodeRecord(COPY_KIND.WARNING, '{}'), encodeError(new VproxyError('copy-failed', 'the disk is full'))];
  here.push(Buffer.concat([encodeRecord(COPY_KIND.DATA, 'tar'), ...last]));
  here.push(null);
  await once(here, 'end');
  t.deepEqual([await held, records.failure], ['tar', null]);
  records.resume();
  t.is((await records.next()).kind, COPY_KIND.WARNING);
  await t.throwsAsync(records.next(), { code: 'copy-failed', message: /the disk is full$/ });
  t.false(records.isLost);
});
