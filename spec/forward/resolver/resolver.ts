import test from 'ava';
import type { EgressRules } from '../../../lib/forward/egress/rules.js';
import { type RefusedQuestion, Resolver } from '../../../lib/forward/resolver/resolver.js';
import { type DnsMessage, formatMessage, parseMessage } from '../../../lib/system/dns/dns-message.js';
import { formatName } from '../../../lib/system/dns/domain-names.js';
import type { ServerQuestion } from '../../../lib/system/dns/name-servers.js';
import { type DnsRecord, typeName } from '../../../lib/system/dns/resource-records.js';
import { deferred, LoopTurns } from '../../../lib/util/concurrency.js';
import { Random } from '../../../tools/bench/soak/random.js';
import { a, aaaa, answerTo, bytesOf, cname, nameOf, query, record, rulesOf, shown, soa } from '../../helpers/dns.js';
import { ManualClock } from '../../helpers/time.js';

interface Setup {
  readonly rules?: EgressRules | null;
  /** The answers of this machine's resolver. Default: 93.184.216.34 for every name. */
  readonly answer?: (question: ServerQuestion) => DnsMessage | Promise<DnsMessage>;
  readonly hosts?: Readonly<Record<string, readonly string[]>>;
  readonly own?: readonly string[];
  readonly maxInFlight?: number;
  readonly turns?: LoopTurns;
}

const ANY_NAME = rulesOf(['*.example.org:443', 'example.org:443']);

const reply = (question: ServerQuestion, answers: readonly DnsRecord[], extra: Partial<DnsMessage> = {}): DnsMessage =>
  answerTo({ ...query('x'), question }, answers, extra);

function setup({ rules = ANY_NAME, answer, hosts = {}, own = [], maxInFlight, turns }: Setup = {}) {
  const clock = new ManualClock();
  const asked: ServerQuestion[] = [];
  const refused: RefusedQuestion[] = [];
  const state = { rules, own: new Set(own) };
  const resolver = new Resolver({
    egress: 'internet',
    rules: () => state.rules,
    clock,
    ask: async (question) => {
      asked.push(question);
      return answer?.(question) ?? reply(question, [a('example.org', '93.184.216.34')]);
    },
    addressesOf: (host) => hosts[host] ?? null,
    ownAddresses: () => state.own,
    ...(maxInFlight !== undefined && { maxInFlight }),
    ...(turns && { turns }),
  });
  const onRefused = (question: RefusedQuestion) => refused.push(question);
  const ask = (message: DnsMessage | Buffer, transport: 'udp' | 'tcp' = 'udp') =>
    resolver.answer(Buffer.isBuffer(message) ? message : bytesOf(message), { transport, onRefused });
  return { clock, asked, refused, state, ask, say: async (message: DnsMessage | Buffer) => shown(await ask(message)) };
}

test('an allowed name is looked up, and the client gets the answer', async (t) => {
  const { ask, asked, refused } = setup();
  const bytes = await ask(query('example.org', 'A', { id: 77 }));
  t.like(parseMessage(bytes as Buffer), { id: 77, isResponse: true, canRecurse: true, wantsRecursion: true, rcode: 0 });
  t.is(shown(bytes), 'rcode 0; example.org. 300 A 93.184.216.34');
  const questions = asked.map(({ name, type }) => `${formatName(name)} ${typeName(type)}`);
  t.deepEqual(questions, ['example.org. A']);
  t.deepEqual(refused, []);
});

test('a name that no entry allows is refused, with a reason for the guest and the log, and no server is asked', async (t) => {
  const { say, asked, refused } = setup();
  const told = await say(query('secret.example.com', 'TXT'));
  t.is(told, 'rcode 5; EDE 18 secret.example.com is not allowed by egress "internet" on the host');
  t.is(await say(query('secret.example.com', 'TXT', { edns: null })), 'rcode 5');
  t.deepEqual(asked, []);
  const verdict = { isAllowed: false, rule: null, why: 'no entry allows it' };
  const both = Array.from({ length: 2 }, () => ({ name: 'secret.example.com.', type: 'TXT', verdict }));
  t.deepEqual(refused, both);
});

test('a name denied on all its ports is refused; one denied on some is not', async (t) => {
  const { say, refused } = setup({
    rules: rulesOf(['*.example.org:80,443'], ['bad.example.org:*', 'half.example.org:80']),
  });
  t.regex(await say(query('bad.example.org')), /^rcode 5/);
  t.is(refused[0]?.verdict.rule, 'deny "bad.example.org:*"');
  t.regex(await say(query('half.example.org')), /^rcode 0/);
});

test('without rules, and for names that are not host names, everything is refused', async (t) => {
  const without = setup({ rules: null });
  t.regex(await without.say(query('example.org')), /^rcode 5; EDE 18 example\.org is not allowed/);
  t.is(without.refused[0]?.verdict.why, 'no egress "internet" is defined');
  const { say, refused, asked } = setup({ rules: rulesOf(['*:443']) });
  // One label with a dot in it, a byte beyond ASCII, and the root.
  for (const name of ['0b6578616d706c652e6f726700', '02c3a400', '00']) {
    const question = { name: Buffer.from(name, 'hex'), type: 1, class: 1 };
    t.regex(await say(query('x', 'A', { question })), /^rcode 5/, name);
  }
  t.is(refused[0]?.name, 'example\\046org.');
  t.deepEqual(asked, []);
});

test('the current rules and addresses of this machine apply, even to cached answers judged by earlier ones', async (t) => {
  const { say, state, asked } = setup();
  for (const [rules, own, told, askedCount] of [
    [ANY_NAME, '', /^rcode 0; example/, 1],
    [rulesOf([]), '', /^rcode 5/, 1],
    [ANY_NAME, '', /^rcode 0; example/, 1],
    [rulesOf(['example.org:443'], ['93.184.0.0/16:*']), '', /^rcode 0; EDE 15/, 2],
    [ANY_NAME, '', /^rcode 0; example/, 3],
    [ANY_NAME, '93.184.216.34', /^rcode 0; EDE 15/, 4],
    [ANY_NAME, '93.184.216.34', /^rcode 0; EDE 15/, 4],
  ] as const) {
    state.rules = rules;
    if (!state.own.has(own)) state.own = new Set([own]);
    t.regex(await say(query('example.org')), told);
    t.is(asked.length, askedCount);
  }
});

test('an answer whose rules have changed by the turn in which it is sent is judged once more', async (t) => {
  for (const [rules, told] of [
    [rulesOf([]), /^rcode 5/],
    [rulesOf(['example.org:443'], ['93.184.0.0/16:*']), /^rcode 0; EDE 15/],
  ] as const) {
    let runs = 0;
    const turns = new (class extends LoopTurns {
      override run<T>(work: () => T | Promise<T>): Promise<T> {
        runs += 1;
        // The first keeps the answer, the second sends it.
        if (runs === 2) state.rules = rules;
        return super.run(work);
      }
    })();
    const { state, say } = setup({ turns });
    t.regex(await say(query('example.org')), told);
  }
});

test('an answer that arrives after a change of the rules is judged by the new ones', async (t) => {
  const answer = deferred<DnsMessage>();
  const { say, asked, state } = setup({ answer: () => answer.promise });
  const told = say(query('example.org'));
  state.rules = rulesOf(['example.net:443']);
  answer.resolve(reply(asked[0] as ServerQuestion, [a('example.org', '93.184.216.34')]));
  t.regex(await told, /^rcode 5; EDE 18/);
});

const REBINDING: readonly [string, DnsRecord][] = [
  ['loopback', a('example.org', '127.0.0.1')],
  ['the metadata of a cloud', a('example.org', '169.254.169.254')],
  ['a private network', a('example.org', '10.0.0.1')],
  ['IPv6 loopback', aaaa('example.org', `${'00'.repeat(15)}01`)],
  ['IPv4 in IPv6', aaaa('example.org', `${'00'.repeat(10)}ffff7f000001`)],
  ['NAT64', aaaa('example.org', `0064ff9b${'00'.repeat(8)}0a000001`)],
  ['this machine', a('example.org', '198.41.0.4')],
  ['a hint of HTTPS', record('example.org', 'HTTPS', Buffer.from('000100000400040a000001', 'hex'))],
  ['a second hint', record('example.org', 'HTTPS', Buffer.from('0001000004000801010101c0a80001', 'hex'))],
  ['an address of an alias', a('x.example.net', '127.0.0.1')],
  ['a hint that is cut off', record('example.org', 'HTTPS', Buffer.from('000100000400090a000001', 'hex'))],
  ['a hint that makes no sense', record('example.org', 'SVCB', Buffer.from('00010000040003ffffff', 'hex'))],
];

for (const [what, hidden] of REBINDING) {
  test(`an address that the egress refuses is omitted: ${what}`, async (t) => {
    const good = a('example.org', '93.184.216.34');
    for (const isAnswer of [true, false]) {
      const { say, refused } = setup({
        answer: (question) =>
          reply(question, isAnswer ? [good, hidden] : [good], { authorities: isAnswer ? [] : [hidden] }),
        own: ['198.41.0.4'],
      });
      const expected =
        'rcode 0; example.org. 300 A 93.184.216.34; EDE 15 an address of example.org is not allowed by egress "internet" on the host';
      t.is(await say(query('example.org')), expected);
      // The cached refusal is reported again.
      t.is(await say(query('example.org')), expected);
      t.is(refused.length, 2);
      t.false(refused[0]?.verdict.isAllowed);
    }
  });
}

test('the additional section is dropped', async (t) => {
  const answer = (question: ServerQuestion) => {
    const records = [a('example.org', '93.184.216.34'), a('example.org', '127.0.0.1')];
    const bytes = bytesOf(reply(question, records, { edns: null }));
    // The counts of answers and of additional records.
    bytes.writeUInt16BE(1, 6);
    bytes.writeUInt16BE(1, 10);
    return parseMessage(bytes) as DnsMessage;
  };
  const bytes = await setup({ answer }).ask(query('example.org', 'A', { edns: null }));
  t.is(bytes?.readUInt16BE(10), 0);
  t.is(shown(bytes), 'rcode 0; example.org. 300 A 93.184.216.34');
});

test('an address that an entry allows is returned, even if only on one port', async (t) => {
  const answer = (question: ServerQuestion) =>
    reply(question, [a('example.org', '10.0.0.1'), a('example.org', '10.0.0.2')]);
  const rules = rulesOf(['example.org:1-9000', '10.0.0.0/8:5000-5432'], ['10.0.0.2:*', '10.0.0.1:5000-5431']);
  const told = await setup({ rules, answer }).say(query('example.org', 'A', { edns: null }));
  t.is(told, 'rcode 0; example.org. 300 A 10.0.0.1');
  const elsewhere = rulesOf(['example.org:443', '10.0.0.0/8:5432']);
  t.is(await setup({ rules: elsewhere, answer }).say(query('example.org', 'A', { edns: null })), 'rcode 0');
});

test('a CNAME chain is returned as is, even if its names are not allowed', async (t) => {
  const answer = (question: ServerQuestion) =>
    reply(question, [cname('www.example.org', 'edge.example.net'), a('edge.example.net', '93.184.216.34', 20)]);
  const { say } = setup({ answer });
  const edge = nameOf('edge.example.net').toString('hex');
  const told = await say(query('www.example.org'));
  t.is(told, `rcode 0; www.example.org. 300 CNAME ${edge}; edge.example.net. 20 A 93.184.216.34`);
  t.regex(await say(query('edge.example.net')), /^rcode 5/);
});

test('answers are cached by name in any case, type, DO and CD, and returned in the spelling of the question', async (t) => {
  const { ask, asked, clock, say } = setup();
  await ask(query('example.org'));
  clock.advance(10_000);
  const bytes = (await ask(query('eXAMPLE.orG'))) as Buffer;
  t.is(formatName(parseMessage(bytes)?.question?.name ?? Buffer.alloc(1)), 'eXAMPLE.orG.');
  // Its name is the question's, and pointers back to it have the same spelling.
  t.is(shown(bytes), 'rcode 0; eXAMPLE.orG. 290 A 93.184.216.34');
  t.is(asked.length, 1);
  await ask(query('example.org', 'AAAA'));
  await ask(query('example.org', 'A', { isUnchecked: true }));
  await ask(query('example.org', 'A', { edns: { udpBytes: 1232, version: 0, wantsDnssec: true, errors: [] } }));
  t.deepEqual(
    asked.map(({ wantsDnssec, isUnchecked }) => [wantsDnssec, isUnchecked]),
    [
      [false, false],
      [false, false],
      [false, true],
      [true, false],
    ],
  );
  clock.advance(290_000);
  await say(query('example.org'));
  t.is(asked.length, 5);
});

test('the same question at the same time waits for the same answer', async (t) => {
  const answer = deferred<DnsMessage>();
  const { say, asked } = setup({ answer: () => answer.promise });
  const answers = Promise.all([say(query('example.org')), say(query('EXAMPLE.org')), say(query('example.org'))]);
  answer.resolve(reply(asked[0] as ServerQuestion, [a('example.org', '93.184.216.34', 0)]));
  t.is(new Set((await answers).map((one) => one.toLowerCase())).size, 1);
  t.is(asked.length, 1);
  // Its TTL was 0.
  await say(query('example.org'));
  t.is(asked.length, 2);
});

test('beyond 256 questions in flight further ones fail, while cached answers are still given', async (t) => {
  const answer = deferred();
  const waits = (question: ServerQuestion) => formatName(question.name) !== 'example.org.';
  const { say, asked } = setup({
    answer: async (question) => {
      if (waits(question)) await answer.promise;
      return reply(question, [a('example.org', '93.184.216.34')]);
    },
  });
  await say(query('example.org'));
  const waiting = Array.from({ length: 256 }, (_, index) => say(query(`n${index}.example.org`)));
  t.is(await say(query('one-more.example.org')), 'rcode 2; EDE 23 too many questions in flight');
  t.regex(await say(query('example.org')), /^rcode 0/);
  t.regex(await say(query('refused.example.com')), /^rcode 5/);
  answer.resolve();
  for (const one of await Promise.all(waiting)) t.regex(one, /^rcode 0/);
  t.is(asked.length, 257);
  t.regex(await say(query('one-more.example.org')), /^rcode 0/);
});

test('an error of this machine’s resolver is a failure without details', async (t) => {
  const dead = setup({ answer: () => Promise.reject(new Error('10.1.2.3:53: no answer within 3 s')) });
  t.is(await dead.say(query('example.org')), "rcode 2; EDE 23 the host's resolver did not answer");
  const errors = [{ code: 6, text: 'at ns.internal.corp' }];
  const edns = { udpBytes: 1232, version: 0, wantsDnssec: false, errors };
  for (const rcode of [1, 2, 4, 5, 9]) {
    const failing = setup({ answer: (question) => reply(question, [a('example.org', '1.1.1.1')], { rcode, edns }) });
    t.is(await failing.say(query('example.org')), 'rcode 2; EDE 6');
    await failing.say(query('example.org'));
    t.is(failing.asked.length, 2);
  }
});

test('a negative answer has the SOA, and is cached', async (t) => {
  const answer = (question: ServerQuestion) => reply(question, [], { rcode: 3, authorities: [soa('example.org', 60)] });
  const { ask, asked } = setup({ answer });
  const first = parseMessage((await ask(query('no.example.org'))) as Buffer);
  t.is(first?.rcode, 3);
  t.deepEqual(first?.authorities, [soa('example.org', 60)]);
  await ask(query('no.example.org'));
  t.is(asked.length, 1);
});

test('a name in /etc/hosts has only its addresses there, as far as they are allowed', async (t) => {
  const hosts = { 'db.example.org': ['93.184.216.34', '2606:2800::1'], 'lo.example.org': ['127.0.0.1'] };
  const { say, asked } = setup({ hosts });
  t.is(await say(query('DB.example.org')), 'rcode 0; DB.example.org. 60 A 93.184.216.34');
  t.is(await say(query('db.example.org', 'AAAA')), `rcode 0; db.example.org. 60 AAAA 26062800${'00'.repeat(11)}01`);
  t.regex(await say(query('lo.example.org')), /^rcode 0; EDE 15/);
  t.is(await say(query('lo.example.org', 'AAAA')), 'rcode 0');
  t.is(asked.length, 0);
  await say(query('db.example.org', 'MX'));
  t.is(asked.length, 1);
});

test('questions that are not for records are refused: other classes, zone transfers, and meta types', async (t) => {
  const { say, asked, refused } = setup();
  for (const type of [251, 252, 249, 250, 253, 254, 41, 128, 0]) {
    const question = { name: nameOf('example.org'), type, class: 1 };
    t.regex(
      await say(query('x', 'A', { question })),
      /^rcode 5; EDE 21 \w+ of class 1 is not supported$/,
      String(type),
    );
  }
  for (const other of [0, 3, 4, 254, 255]) {
    const question = { name: nameOf('example.org'), type: 16, class: other };
    t.is(await say(query('x', 'A', { question })), `rcode 5; EDE 21 TXT of class ${other} is not supported`);
  }
  t.is(await say(query('example.org', 'ANY')), 'rcode 0; example.org. 3600 HINFO 075246433834383200');
  t.regex(await say(query('other.example.com', 'ANY')), /^rcode 5; EDE 18/);
  t.is(asked.length, 0);
  t.is(refused.length, 1);
});

test('unknown types are looked up like the usual ones', async (t) => {
  const data = Buffer.from('anything at all');
  const { say } = setup({
    answer: (question) => reply(question, [{ name: question.name, type: 65_281, ttl: 9, data }]),
  });
  const question = { name: nameOf('example.org'), type: 65_281, class: 1 };
  t.is(await say(query('x', 'A', { question })), `rcode 0; example.org. 9 TYPE65281 ${data.toString('hex')}`);
});

test('an answer over UDP is truncated to the size that the client accepts; over TCP it is complete', async (t) => {
  const many = Array.from({ length: 60 }, (_, index) => a('example.org', `93.184.216.${index}`));
  const { ask } = setup({ answer: (question) => reply(question, many) });
  const sizes = async (udpBytes: number | null, transport: 'udp' | 'tcp' = 'udp') => {
    const edns = udpBytes === null ? null : { udpBytes, version: 0, wantsDnssec: false, errors: [] };
    const bytes = (await ask(query('example.org', 'A', { edns }), transport)) as Buffer;
    const { isTruncated, answers } = parseMessage(bytes) as DnsMessage;
    return [isTruncated, answers.length];
  };
  t.deepEqual(await sizes(null), [true, 0]);
  t.deepEqual(await sizes(512), [true, 0]);
  t.deepEqual(await sizes(4096), [false, 60]);
  t.deepEqual(await sizes(65_535), [false, 60]);
  t.deepEqual(await sizes(null, 'tcp'), [false, 60]);
  // A size below 512 means 512.
  const few = setup({ answer: (question) => reply(question, many.slice(0, 25)) });
  const edns = { udpBytes: 0, version: 0, wantsDnssec: false, errors: [] };
  t.is(parseMessage((await few.ask(query('example.org', 'A', { edns }))) as Buffer)?.answers.length, 25);
});

test('the authentic flag of an answer is returned to clients that ask for it', async (t) => {
  const { ask } = setup({
    answer: (question) => reply(question, [a('example.org', '93.184.216.34')], { isAuthentic: true }),
  });
  const isAuthentic = async (extra: Partial<DnsMessage>) =>
    parseMessage((await ask(query('example.org', 'A', extra))) as Buffer)?.isAuthentic;
  t.false(await isAuthentic({}));
  t.true(await isAuthentic({ isAuthentic: true }));
  t.true(await isAuthentic({ edns: { udpBytes: 1232, version: 0, wantsDnssec: true, errors: [] } }));
});

test('invalid questions are answered with the matching error, and answers not at all', async (t) => {
  const { ask, say, asked } = setup();
  t.is(await say(query('example.org', 'A', { opcode: 4 })), 'rcode 4');
  t.is(await say(query('example.org', 'A', { question: null })), 'rcode 1');
  t.is(await say(query('example.org', 'A', { answers: [a('example.org', '1.1.1.1')] })), 'rcode 1');
  t.is(await say(query('example.org', 'A', { authorities: [soa('example.org', 1)] })), 'rcode 1');
  const edns = { udpBytes: 1232, version: 1, wantsDnssec: false, errors: [] };
  t.is(await say(query('example.org', 'A', { edns })), 'rcode 16');
  const broken = Buffer.concat([bytesOf(query('example.org')), Buffer.alloc(1)]);
  t.deepEqual(parseMessage((await ask(broken)) as Buffer), {
    ...query('x', 'A', { question: null, edns: null }),
    isResponse: true,
    canRecurse: true,
    rcode: 1,
  });
  const long = formatMessage(
    { ...query('example.org'), edns: { ...edns, version: 0, errors: [{ code: 1, text: 'x'.repeat(5000) }] } },
    65_535,
  );
  t.is(await say(long), 'rcode 1');
  t.is(await ask(answerTo(query('example.org'), [])), null);
  t.is(await ask(Buffer.alloc(11)), null);
  t.is(asked.length, 0);
});

test('a refusal fits in 512 bytes, whatever the name', async (t) => {
  const longest = Buffer.from(`${`3f${'ff'.repeat(63)}`.repeat(3)}3d${'ff'.repeat(61)}00`, 'hex');
  const { ask } = setup();
  const edns = { udpBytes: 512, version: 0, wantsDnssec: false, errors: [] };
  const bytes = (await ask(query('x', 'A', { question: { name: longest, type: 1, class: 1 }, edns }))) as Buffer;
  t.true(bytes.length <= 512);
  t.regex(shown(bytes), /^rcode 5; EDE 18 (\\255)+…? is not allowed by egress "internet" on the host$/);
});

test('30,000 random or randomly changed messages are each answered, or dropped', async (t) => {
  const generator = new Random(1);
  const random = (below: number) => generator.integer(0, below - 1);
  const { ask } = setup();
  const good = [query('example.org'), query('no.example.com', 'MX'), query('www.example.org', 'HTTPS')].map(bytesOf);
  const codes = new Map<number | null, number>();
  for (let turn = 0; turn < 30_000; turn += 1) {
    const from = good[turn % 4];
    const bytes = Buffer.from(from ?? Array.from({ length: random(80) }, () => random(256)));
    for (let change = from === undefined ? 0 : random(4); change > 0; change -= 1)
      bytes[random(bytes.length)] = random(256);
    const answer = await ask(bytes, turn % 2 === 0 ? 'udp' : 'tcp');
    const message = answer === null ? null : parseMessage(answer);
    const isAnswer = message !== null && message.isResponse && message.id === bytes.readUInt16BE(0);
    if (answer !== null && !isAnswer) t.fail(bytes.toString('hex'));
    codes.set(message?.rcode ?? null, (codes.get(message?.rcode ?? null) ?? 0) + 1);
  }
  for (const code of [null, 0, 1, 4, 5, 16]) t.true((codes.get(code) ?? 0) > 100, `${code}: ${codes.get(code)}`);
});
