/** Escaped texts, similar words, times with units, and the words for system errors. */
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import test from 'ava';
import fc from 'fast-check';
import { closestWord, suggestOrList } from '../../lib/util/closest-word.js';
import { describeError, escapeText } from '../../lib/util/escape.js';
import { chooseChannel } from '../../lib/util/labels.js';
import { formatDuration, parseDuration } from '../../lib/util/units.js';
import { freePort } from '../helpers/ports.js';

test('what a terminal could obey is escaped', (t) => {
  t.is(escapeText('a\tb\nc\\d\u001b[2J\u202e'), 'a\\tb\\nc\\\\d\\x1b[2J\\u{202e}');
  t.is(escapeText('é\t', 1), 'é…');
});

test('a word is guessed by its beginning, with a wrong letter in four, or with two swapped', (t) => {
  const known = ['status', 'streams', 'exec', 'copy', 'web1', 'vm1'];
  for (const [word, close] of [
    ['stat', 'status'],
    ['strems', 'streams'],
    ['exce', 'exec'],
    ['Copy', 'copy'],
    ['web2', undefined],
    ['vm2', undefined],
    ['x', undefined],
    ['', undefined],
  ] as const) {
    t.is(closestWord(word, known), close, word);
  }
});

test('if no word is similar, or it is too short to tell, all are listed', (t) => {
  t.is(suggestOrList('guset', ['guest', 'vm1']), 'did you mean guest?');
  t.is(suggestOrList('other', ['guest', 'vm1']), 'available: guest, vm1');
  t.is(suggestOrList('vma', ['vm1', 'vm2']), 'available: vm1, vm2');
  t.is(suggestOrList('guest', []), 'none available');
});

test('a single channel need not be named; with any other number one must be', (t) => {
  const chosen = (labels: readonly string[], label?: string) => () =>
    chooseChannel(new Map(labels.map((one) => [one, one])), label);
  t.is(chosen(['vm1'])(), 'vm1');
  t.is(chosen(['vm1', 'vm2'], 'vm2')(), 'vm2');
  t.throws(chosen(['vm1', 'vm2']), { code: 'bad-argument', message: 'missing channel label; available: vm1, vm2' });
  t.throws(chosen([]), { code: 'bad-argument', message: 'missing channel label; none available' });
  t.throws(chosen(['vm1'], 'vm2'), { code: 'not-found' });
});

test('a time has whole numbers and units, each unit once, the largest first', (t) => {
  for (const [text, ms] of Object.entries({
    '90s': 90_000,
    '5m': 300_000,
    '1h30m': 5_400_000,
    '1m0s500ms': 60_500,
    '0s': 0,
  })) {
    t.is(parseDuration(text), ms, text);
  }
  for (const text of ['', '90', '1.5h', '5M', '30m1h', '1h 30m', '-5m', 'm', '5m5m'])
    t.is(parseDuration(text), null, text);
});

test('a time is written with one unit, and read back', (t) => {
  t.is(formatDuration(0), '0');
  t.is(formatDuration(90_000), '90s');
  t.is(formatDuration(7_200_000), '2h');
  fc.assert(fc.property(fc.integer({ min: 1, max: 1e10 }), (ms) => parseDuration(formatDuration(ms)) === ms));
});

/** The message for what `work` throws, or rejects with. */
async function said(work: () => unknown): Promise<string> {
  try {
    await work();
  } catch (error) {
    return describeError(error);
  }
  return 'nothing';
}

test('system errors are words with their codes, without Node’s calls', async (t) => {
  t.is(await said(() => readFileSync('/nonexistent')), 'no such file or directory (ENOENT)');
  t.is(await said(() => readFileSync('/')), 'is a directory (EISDIR)');
  t.is(await said(() => readFileSync('/etc/passwd/x')), 'not a directory (ENOTDIR)');
  t.is(await said(() => readFileSync(`/${'x'.repeat(300)}`)), 'name too long (ENAMETOOLONG)');
  const port = await freePort();
  const refused = new Promise((_resolve, reject) => connect({ host: '127.0.0.1', port }).once('error', reject));
  t.is(await said(() => refused), `connection refused (ECONNREFUSED 127.0.0.1:${port})`);
  const error = await refused.catch((reason: unknown) => reason);
  t.is(describeError(error, `127.0.0.1:${port}`), 'connection refused (ECONNREFUSED)', 'named already');
  t.is(describeError(error, `localhost:${port}`), `connection refused (ECONNREFUSED 127.0.0.1:${port})`);
  t.is(describeError(new Error('what a program said')), 'what a program said');
  const both = new AggregateError([new Error('one'), new Error('other')]);
  t.is(describeError(both), 'one; other');
  t.is(describeError('text'), 'text');
});
