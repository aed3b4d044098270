import test from 'ava';
import { AnswerCache, boundTimes } from '../../../lib/forward/resolver/cache.js';
import {
  type DnsMessage,
  formatAnswer,
  parseMessage,
  type WrittenRecords,
  writeRecords,
} from '../../../lib/system/dns/dns-message.js';
import { a, answerTo, cname, query, record, soa } from '../../helpers/dns.js';
import { ManualClock } from '../../helpers/time.js';

const setup = (options: { maxEntries?: number; maxBytes?: number } = {}) => {
  const clock = new ManualClock();
  const kept = new AnswerCache<{ readonly head: DnsMessage; readonly records: WrittenRecords }>({ clock, ...options });
  const cache = {
    set: (key: string, message: DnsMessage) =>
      kept.set(key, message, { head: message, records: writeRecords(message) }),
    get(key: string): DnsMessage | null {
      const answer = kept.get(key);
      return answer === null ? null : parseMessage(formatAnswer(answer.head, answer.records, 65_535));
    },
    get size() {
      return kept.size;
    },
    get byteCount() {
      return kept.byteCount;
    },
  };
  return { clock, cache };
};

const answer = (name: string, ...ttls: number[]): DnsMessage =>
  answerTo(
    query(name),
    ttls.map((ttl, index) => a(name, `192.0.2.${index}`, ttl)),
  );

const ttlsOf = (message: DnsMessage | null): number[] | undefined => message?.answers.map(({ ttl }) => ttl);

test('an answer is cached until the first of its records expires, and its TTLs count down', (t) => {
  const { clock, cache } = setup();
  cache.set('x', answer('x.example', 60, 30));
  t.deepEqual(ttlsOf(cache.get('x')), [60, 30]);
  clock.advance(999);
  t.deepEqual(ttlsOf(cache.get('x')), [60, 30]);
  clock.advance(1);
  t.deepEqual(ttlsOf(cache.get('x')), [59, 29]);
  clock.advance(28_999);
  t.deepEqual(ttlsOf(cache.get('x')), [31, 1]);
  clock.advance(1);
  t.is(cache.get('x'), null);
  t.is(cache.size, 0);
  t.is(cache.byteCount, 0);
});

test('TTLs above an hour become an hour, and those above 2^31 become 0', (t) => {
  const bounded = boundTimes({
    ...answer('x.example', 86_400, 60, 0x80000000),
    authorities: [soa('example', 9, 7200)],
  });
  t.deepEqual(ttlsOf(bounded), [3600, 60, 0]);
  t.is(bounded.authorities[0]?.ttl, 3600);
});

test('an answer with TTL 0, and a failure, is not cached', (t) => {
  const { cache } = setup();
  cache.set('x', answer('x.example', 0, 60));
  for (const rcode of [1, 2, 4, 5]) cache.set('x', { ...answer('x.example', 60), rcode });
  t.is(cache.get('x'), null);
});

test('a negative answer is cached for the TTL of the SOA, at most five minutes', (t) => {
  const { clock, cache } = setup();
  const nothing = (rcode: number, minimum: number) =>
    answerTo(query('x.example'), [], { rcode, authorities: [soa('example', minimum)] });
  cache.set('none', answerTo(query('x.example'), [], { rcode: 3 }));
  t.is(cache.get('none'), null);
  cache.set('short', nothing(3, 20));
  cache.set('no data', nothing(0, 20));
  cache.set('long', nothing(3, 86_400));
  // A chain that leads to nothing is a negative answer, too.
  cache.set(
    'chain',
    answerTo(query('x.example'), [cname('x.example', 'y.example', 3000)], { authorities: [soa('example', 20)] }),
  );
  cache.set('bare chain', answerTo(query('x.example'), [cname('x.example', 'y.example', 3000)]));
  t.is(cache.get('bare chain'), null);
  clock.advance(19_999);
  for (const key of ['short', 'no data', 'chain']) t.not(cache.get(key), null, key);
  clock.advance(1);
  for (const key of ['short', 'no data', 'chain']) t.is(cache.get(key), null, key);
  clock.advance(279_999);
  t.is(cache.get('long')?.rcode, 3);
  clock.advance(1);
  t.is(cache.get('long'), null);
});

test('the least recently used answer makes room', (t) => {
  const { cache } = setup({ maxEntries: 3 });
  for (const key of ['a', 'b', 'c']) cache.set(key, answer(`${key}.example`, 60));
  cache.get('a');
  cache.set('d', answer('d.example', 60));
  const isKept = ['a', 'b', 'c', 'd'].map((key) => cache.get(key) !== null);
  t.deepEqual(isKept, [true, false, true, true]);
  t.is(cache.size, 3);
});

test('memory is bounded whatever the answers are, and a replaced answer counts once', (t) => {
  const { cache } = setup({ maxBytes: 20_000 });
  const large = (key: string) =>
    answerTo(query(key), [record(key, 'TXT', Buffer.alloc(1 + ((key.length * 997) % 4000)))]);
  for (let turn = 0; turn < 300; turn += 1) {
    cache.set(`key ${turn % 50}`, large(`${'n'.repeat(turn % 60)}.example`));
    t.true(cache.byteCount <= 20_000);
  }
  t.true(cache.size > 3);
  cache.set(
    'huge',
    answerTo(
      query('x.example'),
      Array.from({ length: 90 }, () => record('x.example', 'TXT', Buffer.alloc(255))),
    ),
  );
  t.is(cache.get('huge'), null);
  const one = setup();
  one.cache.set('x', answer('x.example', 60));
  const bytes = one.cache.byteCount;
  one.cache.set('x', answer('x.example', 30));
  t.is(one.cache.byteCount, bytes);
});
