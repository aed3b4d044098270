/** CPU time of questions, and of the turns in which they are answered, in this process; nothing else runs in this file meanwhile. */
import test from 'ava';
import { Resolver } from '../../../lib/forward/resolver/resolver.js';
import { type DnsMessage, parseMessage } from '../../../lib/system/dns/dns-message.js';
import type { DnsRecord } from '../../../lib/system/dns/resource-records.js';
import { a, answerTo, bytesOf, nameOf, query, record, rulesOf } from '../../helpers/dns.js';
import { ManualClock } from '../../helpers/time.js';
import { bestTurnMs } from '../../helpers/turn-time.js';

/** As many as fit in a frame of 9,216 bytes. */
const QUESTIONS = 512;

/** A question for 2 cached records takes some 60 µs; with parsing, judging and encoding for each, 512 records took 3 to 5 ms. */
const MAX_CPU_MS = 400;

const addresses = (count: number): DnsRecord[] =>
  Array.from({ length: count }, (_, index) => a('example.org', `93.184.${index >> 8}.${index & 255}`));

/** CPU time of `work`, in milliseconds. */
async function cpuMs(work: () => void | Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

function resolverOf(records: readonly DnsRecord[], allow = ['example.org:443']) {
  const rules = rulesOf(allow);
  const own = new Set<string>();
  const refused: string[] = [];
  const resolver = new Resolver({
    egress: 'internet',
    rules: () => rules,
    clock: new ManualClock(),
    ask: (question) => Promise.resolve(answerTo({ ...query('x'), question, edns: null }, records)),
    addressesOf: () => null,
    ownAddresses: () => own,
  });
  const ask = (): Promise<Buffer | null> =>
    resolver.answer(bytesOf(query('example.org')), {
      transport: 'tcp',
      onRefused: ({ verdict }) => refused.push(verdict.why),
    });
  return { ask, refused };
}

for (const count of [2, 512]) {
  test.serial(`${QUESTIONS} questions for a cached answer of ${count} records`, async (t) => {
    const { ask } = resolverOf(addresses(count));
    await ask();
    const spentMs = await cpuMs(async () => {
      for (let turn = 0; turn < QUESTIONS; turn += 1) await ask();
    });
    t.is(parseMessage((await ask()) ?? Buffer.alloc(0))?.answers.length, count);
    t.true(spentMs < MAX_CPU_MS, `${spentMs} ms`);
  });
}

test.serial('an answer with more records than the limit is refused by its header', async (t) => {
  const bytes = bytesOf(answerTo(query('example.org'), addresses(4000)));
  const spentMs = await cpuMs(() => {
    for (let turn = 0; turn < QUESTIONS; turn += 1) t.is(parseMessage(bytes), null);
  });
  t.true(spentMs < MAX_CPU_MS, `${spentMs} ms`);
  const read = (count: number, extra: Partial<DnsMessage> = {}): number | undefined =>
    parseMessage(bytesOf(answerTo(query('example.org'), addresses(count), extra)))?.answers.length;
  t.is(read(512), 512);
  t.is(read(513), undefined);
  t.is(read(500, { authorities: addresses(13) }), undefined);
});

test.serial('the limit on judged addresses is the same for SVCB and HTTPS as for address records', async (t) => {
  const hints = (count: number): DnsRecord => {
    const head = Buffer.from([0, 1, 0, 0, 4, (4 * count) >> 8, (4 * count) & 255]);
    return record('example.org', 'HTTPS', Buffer.concat([head, Buffer.alloc(4 * count, 93)]));
  };
  const { ask, refused } = resolverOf([hints(512), hints(1)]);
  const answer = parseMessage((await ask()) ?? Buffer.alloc(0));
  t.is(answer?.answers.length, 1);
  t.deepEqual(refused, ['more than 512 addresses in one answer']);
  const spentMs = await cpuMs(async () => {
    for (let turn = 0; turn < 20; turn += 1) await resolverOf([hints(16_000)]).ask();
  });
  t.true(spentMs < MAX_CPU_MS, `${spentMs} ms`);
});

/** The limit in docs/security.md. */
const MAX_TURN_MS = 20;

test.serial('512 addresses are judged by 200 rules for ports of their own in turns of the event loop', async (t) => {
  const allow = Array.from({ length: 200 }, (_, index) => `host${index}.example.org:${8000 + index}`);
  const inside = Array.from({ length: 512 }, (_, index) => a('example.org', `10.0.${index >> 8}.${index & 255}`));
  const longest = await bestTurnMs(MAX_TURN_MS, async () => {
    const { ask, refused } = resolverOf(inside, [...allow, 'example.org:443']);
    t.deepEqual(parseMessage((await ask()) ?? Buffer.alloc(0))?.answers, []);
    t.is(refused.length, 1);
  });
  t.log(`${longest} ms`);
  t.true(longest <= MAX_TURN_MS, `${longest} ms`);
});

test.serial('names of many labels are read in time proportional to their bytes', async (t) => {
  const deep = (index: number): DnsRecord => ({
    ...a('x', '1.1.1.1'),
    name: nameOf(`${index}${'.x'.repeat(118)}.org`),
  });
  const bytes = bytesOf(
    answerTo(
      query('example.org'),
      Array.from({ length: 500 }, (_, index) => deep(index)),
    ),
  );
  const spentMs = await cpuMs(() => {
    for (let turn = 0; turn < 50; turn += 1) t.is(parseMessage(bytes)?.answers.length, 500);
  });
  t.true(spentMs < MAX_CPU_MS, `${spentMs} ms`);
});
