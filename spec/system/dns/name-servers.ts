import { spawn } from 'node:child_process';
import dgram from 'node:dgram';
import { once } from 'node:events';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type DnsMessage, parseMessage, RCODE } from '../../../lib/system/dns/dns-message.js';
import { NameServers } from '../../../lib/system/dns/name-servers.js';
import type { DnsRecord } from '../../../lib/system/dns/resource-records.js';
import { systemClock } from '../../../lib/util/clock.js';
import { a, answerTo, bytesOf, dnsServer, question } from '../../helpers/dns.js';
import { PROJECT_ROOT } from '../../helpers/files.js';
import { FLOODING_NAME_SERVER } from '../../helpers/flooding-name-server.js';
import { freePort } from '../../helpers/ports.js';
import { eventually, ManualClock } from '../../helpers/time.js';
import { bestTurnMs } from '../../helpers/turn-time.js';

const ASKED = { ...question('www.example.org'), wantsDnssec: false, isUnchecked: false };

const ADDRESS = a('www.example.org', '192.0.2.1');

/** Asks servers at these ports; time stands still unless a clock is given. */
function serversOf(t: ExecutionContext, ports: readonly number[], clock = new ManualClock(), maxInFlight = 100) {
  const servers = ports.map((port) => ({ host: '127.0.0.1', port }));
  const upstream = new NameServers({ clock, servers: () => servers, maxInFlight });
  t.teardown(() => upstream.stop());
  return { clock, upstream, ask: (asked = ASKED) => upstream.ask(asked) };
}

async function udpSocket(t: ExecutionContext): Promise<dgram.Socket> {
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1');
  t.teardown(() => socket.close());
  await once(socket, 'listening');
  return socket;
}

/** A server that always answers with this code. */
const saying = (t: ExecutionContext, rcode: number) => dnsServer(t, (asked) => [answerTo(asked, [], { rcode })]);

/** A server whose UDP answers are truncated. */
const truncating = (t: ExecutionContext, byTcp: (asked: DnsMessage) => (DnsMessage | Buffer)[]) =>
  dnsServer(t, (asked, transport) =>
    transport === 'udp' ? [answerTo(asked, [], { isTruncated: true })] : byTcp(asked),
  );

test('each question is separate: an unpredictable id and port, and nothing about the guest', async (t) => {
  const server = await dnsServer(t, (asked) => [answerTo(asked, [ADDRESS])]);
  const { ask } = serversOf(t, [server.port]);
  for (let turn = 0; turn < 40; turn += 1) t.deepEqual((await ask()).answers, [ADDRESS]);
  t.true(new Set(server.queries.map(({ id }) => id)).size > 35);
  t.true(new Set(server.ports).size > 30);
  t.like(server.queries[0], { wantsRecursion: true, opcode: 0, isUnchecked: false });
  t.deepEqual(server.queries[0]?.edns, { udpBytes: 1232, version: 0, wantsDnssec: false, errors: [] });
  await ask({ ...ASKED, wantsDnssec: true, isUnchecked: true });
  t.true(server.queries.at(-1)?.isUnchecked);
  t.true(server.queries.at(-1)?.edns?.wantsDnssec);
});

test('answers with another id or question, queries, and short messages are ignored', async (t) => {
  const server = await dnsServer(t, (asked) => {
    const forged = answerTo(asked, [a('www.example.org', '6.6.6.6')]);
    return [
      { ...forged, id: asked.id ^ 1 },
      { ...forged, question: question('www.example.net') },
      { ...forged, question: question('www.example.org', 'AAAA') },
      { ...forged, question: null },
      { ...forged, isResponse: false },
      Buffer.alloc(0),
      bytesOf(forged).subarray(0, 11),
      answerTo(asked, [ADDRESS]),
    ];
  });
  t.deepEqual((await serversOf(t, [server.port]).ask()).answers, [ADDRESS]);
  t.is(server.asked.length, 1);
});

test('a server that sends nine other datagrams has failed, and the next one is asked', async (t) => {
  const server = await dnsServer(t, (asked) => {
    const others = Array.from({ length: 9 }, () => answerTo(asked, [ADDRESS], { question: question('x.example') }));
    return [...others, answerTo(asked, [a('www.example.org', '6.6.6.6')])];
  });
  const good = await dnsServer(t, (asked) => [answerTo(asked, [ADDRESS])]);
  t.deepEqual((await serversOf(t, [server.port, good.port]).ask()).answers, [ADDRESS]);
});

test('an answer from another address does not arrive', async (t) => {
  const [forger, real] = [await udpSocket(t), await udpSocket(t)];
  const answer = serversOf(t, [real.address().port]).ask();
  const [bytes, { port }] = (await once(real, 'message')) as [Buffer, dgram.RemoteInfo];
  const asked = parseMessage(bytes) as DnsMessage;
  const send = (from: dgram.Socket, record: DnsRecord) =>
    new Promise((resolve) => from.send(bytesOf(answerTo(asked, [record])), port, '127.0.0.1', resolve));
  // A forger has everything right except the source address.
  await send(forger, a('www.example.org', '6.6.6.6'));
  await send(real, ADDRESS);
  t.deepEqual((await answer).answers, [ADDRESS]);
});

test('truncated answers are requested by TCP', async (t) => {
  const many = Array.from({ length: 200 }, (_, index) => a('www.example.org', `192.0.2.${index}`));
  const server = await truncating(t, (asked) => [answerTo(asked, many)]);
  t.is((await serversOf(t, [server.port]).ask()).answers.length, 200);
  t.deepEqual(server.asked, ['udp www.example.org. A', 'tcp www.example.org. A']);
  t.not(server.queries[0]?.id, server.queries[1]?.id);
});

test('a server without EDNS is asked without it', async (t) => {
  const server = await dnsServer(t, (asked) => [
    asked.edns === null ? answerTo(asked, [ADDRESS]) : answerTo(asked, [], { rcode: 1, edns: null, question: null }),
  ]);
  t.deepEqual((await serversOf(t, [server.port]).ask()).answers, [ADDRESS]);
  t.is(server.asked.length, 2);
});

test('the next server is asked after one that fails, refuses, sends garbage or is not there', async (t) => {
  const good = await dnsServer(t, (asked) => [answerTo(asked, [ADDRESS])]);
  const [fails, refuses] = [await saying(t, 2), await saying(t, 5)];
  const senseless = await dnsServer(t, (asked) => [bytesOf(answerTo(asked, [ADDRESS])).fill(0xff, 12)]);
  for (const first of [fails.port, refuses.port, senseless.port, await freePort()])
    t.deepEqual((await serversOf(t, [first, good.port]).ask()).answers, [ADDRESS]);
});

test('a failure is returned if no server has anything better; that a name does not exist is an answer', async (t) => {
  const [fails, refuses, knows] = [await saying(t, 2), await saying(t, 5), await saying(t, 3)];
  t.is((await serversOf(t, [fails.port, refuses.port]).ask()).rcode, 5);
  t.is((await serversOf(t, [knows.port, fails.port]).ask()).rcode, 3);
  const counts = [fails, refuses, knows].map(({ asked }) => asked.length);
  t.deepEqual(counts, [1, 1, 1]);
});

test('each server has 3 s, twice', async (t) => {
  const [first, second] = [await dnsServer(t, () => []), await dnsServer(t, () => [])];
  const { ask, clock } = serversOf(t, [first.port, second.port]);
  const failure = t.throwsAsync(ask(), { code: 'connect-timeout' });
  for (const [server, count] of [
    [first, 1],
    [second, 1],
    [first, 2],
    [second, 2],
  ] as const) {
    await eventually(() => server.asked.length === count);
    clock.advance(2999);
    t.is(first.asked.length + second.asked.length, 2 * count - Number(server === first));
    clock.advance(1);
  }
  t.regex((await failure).message, /127\.0\.0\.1:\d+: no answer within 3 s/);
  t.is(clock.pending, 0);
});

test('a late answer, or one in the second round, is accepted', async (t) => {
  const server = await dnsServer(t, (asked) => (server.asked.length === 1 ? [] : [answerTo(asked, [ADDRESS])]));
  const { ask, clock } = serversOf(t, [server.port]);
  const answer = ask();
  await eventually(() => server.asked.length === 1);
  clock.advance(3000);
  t.deepEqual((await answer).answers, [ADDRESS]);
});

test('a server that accepts a connection and says nothing times out', async (t) => {
  const server = await truncating(t, () => []);
  const { ask, clock } = serversOf(t, [server.port]);
  const failure = t.throwsAsync(ask(), { code: 'connect-timeout' });
  for (const count of [2, 4]) {
    await eventually(() => server.asked.length === count);
    clock.advance(3000);
  }
  await failure;
});

test('the first message of a connection must be the answer', async (t) => {
  for (const first of [Buffer.alloc(0), Buffer.alloc(65_535), 'another id'] as const) {
    const server = await truncating(t, (asked) => [
      typeof first === 'string' ? { ...asked, isResponse: true, id: asked.id ^ 1 } : first,
      answerTo(asked, [ADDRESS]),
    ]);
    const failure = { code: 'connect-failed', message: /sent other messages than the answer/ };
    await t.throwsAsync(serversOf(t, [server.port]).ask(), failure);
  }
});

test.serial(
  '32 look-ups at a server that writes empty messages as fast as it can take turns of at most 20 ms',
  async (t) => {
    const program = spawn(process.execPath, [join(PROJECT_ROOT, FLOODING_NAME_SERVER)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    t.teardown(() => program.kill('SIGKILL'));
    const [port] = (await once(program.stdout, 'data')) as [Buffer];
    const { ask } = serversOf(t, [Number(port)]);
    const longest = await bestTurnMs(
      20,
      async () => {
        const asked = Array.from({ length: 32 }, (_, index) => ask({ ...ASKED, ...question(`n${index}.example`) }));
        const ends = await Promise.allSettled(asked);
        t.true(ends.every(({ status }) => status === 'rejected'));
      },
      5,
    );
    t.log(`${longest} ms`);
    t.true(longest <= 20, `${longest} ms`);
  },
);

test.serial('300 look-ups that begin and time out together take turns of at most 20 ms', async (t) => {
  const silent = await udpSocket(t);
  const longest = await bestTurnMs(
    20,
    async () => {
      const { ask, clock, upstream } = serversOf(t, [silent.address().port], new ManualClock(), 300);
      const failures = Promise.allSettled(Array.from({ length: 300 }, () => ask()));
      for (const round of [1, 2]) {
        await eventually(() => clock.pending === 300, { what: `the questions of round ${round}` });
        clock.advance(3000);
      }
      t.true((await failures).every(({ status }) => status === 'rejected'));
      upstream.stop();
    },
    5,
  );
  t.log(`${longest} ms`);
  t.true(longest <= 20, `${longest} ms`);
});

test('a malformed answer by TCP is a failure', async (t) => {
  const server = await truncating(t, (asked) => [bytesOf(answerTo(asked, [ADDRESS])).subarray(0, 20)]);
  await t.throwsAsync(serversOf(t, [server.port]).ask(), { code: 'connect-failed', message: /malformed answer/ });
});

test('a limited number of questions are in flight, and the others wait', async (t) => {
  const held: (() => void)[] = [];
  const socket = await udpSocket(t);
  socket.on('message', (bytes, { port }) => {
    held.push(() => socket.send(bytesOf(answerTo(parseMessage(bytes) as DnsMessage, [])), port, '127.0.0.1'));
  });
  const { ask } = serversOf(t, [socket.address().port], new ManualClock(), 3);
  const answers = Promise.all(
    Array.from({ length: 7 }, (_, index) => ask({ ...ASKED, ...question(`n${index}.example`) })),
  );
  for (const count of [3, 4, 5, 6, 7]) {
    await eventually(() => held.length === count);
    held[count - 3]?.();
  }
  for (const answer of held.slice(5)) answer();
  t.is((await answers).length, 7);
});

test('stop() cancels all questions, including those that wait', async (t) => {
  const server = await dnsServer(t, () => []);
  const { ask, upstream, clock } = serversOf(t, [server.port], new ManualClock(), 1);
  const failures = [ask(), ask(), ask()].map((answer) => t.throwsAsync(answer, { code: 'cancelled' }));
  await eventually(() => server.asked.length === 1);
  upstream.stop();
  await Promise.all(failures);
  t.is(clock.pending, 0);
  await t.throwsAsync(ask(), { code: 'cancelled' });
  t.is(server.asked.length, 1);
});

test('stop() cancels a question that one server has failed to answer, and another still has', async (t) => {
  const [failing, silent] = [await saying(t, RCODE.SERVFAIL), await dnsServer(t, () => [])];
  const { ask, upstream } = serversOf(t, [failing.port, silent.port]);
  const failure = t.throwsAsync(ask(), { code: 'cancelled' });
  await eventually(() => silent.asked.length === 1);
  upstream.stop();
  await failure;
});

test('without a server, a question fails', async (t) => {
  const upstream = new NameServers({ clock: systemClock, servers: () => [] });
  await t.throwsAsync(upstream.ask(ASKED), { code: 'connect-failed', message: 'no name server to ask' });
});
