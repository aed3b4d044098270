import dns from 'node:dns/promises';
import { setImmediate } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { VproxyError } from '../../../lib/errors.js';
import type { LogEvent } from '../../../lib/events.js';
import { DatagramFlow } from '../../../lib/forward/datagram/datagram-flow.js';
import type { EgressRules } from '../../../lib/forward/egress/rules.js';
import type { Target, TargetContext } from '../../../lib/forward/endpoint-kind.js';
import { resolverForm } from '../../../lib/forward/forms/resolver-form.js';
import { resolverEndpoint } from '../../../lib/forward/resolver/resolver-endpoint.js';
import { MuxStream } from '../../../lib/session/mux-stream.js';
import { frameMessage, MessageFrames } from '../../../lib/system/dns/message-frames.js';
import {
  a,
  aaaa,
  bytesOf,
  cname,
  dnsServer,
  nameOf,
  query,
  record,
  rulesOf,
  shown,
  soa,
  zoneServer,
} from '../../helpers/dns.js';
import { heapBytes } from '../../helpers/measures.js';
import { freePort } from '../../helpers/ports.js';
import { countsOf, proxyPair } from '../../helpers/proxies.js';
import { carryOn, carryUntil, type SessionPair } from '../../helpers/session-pair.js';
import { targetPair } from '../../helpers/target-pair.js';
import { eventually } from '../../helpers/time.js';

// ---- through two proxies, asked by Node's resolver -----------------------------------------------------------------

/** `a` listens for DNS on one port over UDP and TCP; `b` answers, and asks the server at `serverPort`. */
async function resolving(t: ExecutionContext, serverPort: number, allow: readonly string[]) {
  const port = await freePort();
  const { a: guest, b: host } = await proxyPair(t, {
    a: { outgoing: [`dns:udp:127.0.0.1:${port}`, `dns:tcp:127.0.0.1:${port}`] },
    b: { incoming: [`dns:resolver:,server=127.0.0.1:${serverPort}`], egress: { dns: { allow } } },
  });
  const resolver = new dns.Resolver({ timeout: 20_000, tries: 1 });
  resolver.setServers([`127.0.0.1:${port}`]);
  return { guest, host, port, resolver };
}

test('a guest resolves names of all usual types over UDP', async (t) => {
  const text = (words: string) => Buffer.concat([Buffer.from([words.length]), Buffer.from(words)]);
  const server = await zoneServer(t, {
    A: [cname('www.example.org', 'example.org'), a('example.org', '93.184.216.34', 60)],
    AAAA: [aaaa('www.example.org', '26062800022000010248189325c81946')],
    MX: [record('example.org', 'MX', Buffer.concat([Buffer.from([0, 10]), nameOf('mx.example.org')]))],
    TXT: [record('example.org', 'TXT', Buffer.concat([text('v=spf1'), text(' -all')]))],
    SRV: [record('example.org', 'SRV', Buffer.concat([Buffer.from([0, 1, 0, 2, 1, 187]), nameOf('s.example.org')]))],
    NS: [record('example.org', 'NS', nameOf('ns.example.org'))],
    PTR: [record('example.org', 'PTR', nameOf('host.example.org'))],
    SOA: [soa('example.org', 60)],
    CAA: [record('example.org', 'CAA', Buffer.concat([Buffer.from([0]), text('issue'), Buffer.from('ca.example')]))],
    NAPTR: [
      record(
        'example.org',
        'NAPTR',
        Buffer.concat([Buffer.from([0, 1, 0, 2]), text('u'), text('SIP'), text('!^.*$!x!'), nameOf('n.example.org')]),
      ),
    ],
  });
  const { resolver, host } = await resolving(t, server.port, ['*.example.org:443', 'example.org:443']);
  t.deepEqual(await resolver.resolve4('www.example.org', { ttl: true }), [{ address: '93.184.216.34', ttl: 60 }]);
  t.deepEqual(await resolver.resolve6('www.example.org'), ['2606:2800:220:1:248:1893:25c8:1946']);
  t.like(await resolver.resolveMx('example.org'), [{ priority: 10, exchange: 'mx.example.org' }]);
  t.deepEqual(await resolver.resolveTxt('example.org'), [['v=spf1', ' -all']]);
  t.like(await resolver.resolveSrv('example.org'), [{ priority: 1, weight: 2, port: 443, name: 's.example.org' }]);
  t.deepEqual(await resolver.resolveNs('example.org'), ['ns.example.org']);
  t.deepEqual(await resolver.resolvePtr('example.org'), ['host.example.org']);
  t.like(await resolver.resolveSoa('example.org'), { nsname: 'ns.example.org', minttl: 60 });
  t.like((await resolver.resolveCaa('example.org'))[0], { critical: 0, issue: 'ca.example' });
  t.like((await resolver.resolveNaptr('example.org'))[0], { service: 'SIP', replacement: 'n.example.org' });
  t.true(server.asked.every((line) => line.startsWith('udp ')));
  t.false(host.events.some(({ event }) => event === 'resolver-refused'));
});

test('an answer too long for UDP comes over TCP, on both sides of the proxy', async (t) => {
  const many = Array.from({ length: 150 }, (_, index) => a('example.org', `93.184.216.${index}`));
  const server = await zoneServer(t, { A: many });
  const { resolver } = await resolving(t, server.port, ['example.org:443']);
  t.is((await resolver.resolve4('example.org')).length, 150);
  t.deepEqual(server.asked, ['udp example.org. A', 'tcp example.org. A']);
});

test('a name that is not allowed is refused, one with a private address has none, and the log has the reason', async (t) => {
  const server = await zoneServer(t, { A: [a('example.org', '192.168.1.1')] });
  const { resolver, host } = await resolving(t, server.port, ['example.org:443']);
  await t.throwsAsync(resolver.resolve4('secrets.evil.example'), { code: 'EREFUSED' });
  t.deepEqual(server.asked, []);
  await t.throwsAsync(resolver.resolve4('example.org'), { code: 'ENODATA' });
  t.deepEqual(countsOf(host.tally('incoming', 'dns')?.questions.results), { refused: 1, noerror: 1 });
  const [refused, inside] = host.all('resolver-refused');
  t.like(refused?.fields, {
    ...{ service: 'dns', egress: 'dns', name: 'secrets.evil.example.', type: 'A' },
    ...{ rule: null, why: 'no entry allows it' },
  });
  t.regex(
    refused?.message ?? '',
    /^stream \d+ to resolver:,server=\S+ \(dns\): refused A of secrets\.evil\.example\.: no entry allows it$/,
  );
  t.regex(inside?.message ?? '', /192\.168\.1\.1 is private/);
});

// ---- the target alone, with a manual clock ------------------------------------------------------------------------

interface Served {
  readonly rules?: EgressRules | null;
  readonly serverPort?: number;
  readonly maxStreams?: number;
}

function served(
  t: ExecutionContext,
  { rules = rulesOf(['example.org:443']), serverPort = 9, maxStreams = 2 }: Served = {},
) {
  const refused: LogEvent[] = [];
  const closed: (VproxyError | null)[] = [];
  const endpoint = resolverForm.parse(`internet,server=127.0.0.1:${serverPort}`, 'incoming', (name) => name);
  const create = (context: TargetContext): Target =>
    resolverEndpoint.createTarget?.(endpoint, context) ?? t.fail('it is no target');
  const { pair, target } = targetPair('dns', 'resolver:internet', create, {
    maxStreams,
    egress: (name) => (name === 'internet' ? rules : null),
    onClosed: (_stream, reason) => closed.push(reason),
    log: (event) => {
      if (event.event === 'resolver-refused') refused.push(event);
    },
  });
  t.teardown(() => target.stop());
  return { pair, target, refused, closed };
}

/** A stream to it, and its answers. */
function connected(pair: SessionPair) {
  const stream = MuxStream.open(pair.a.session, 'dns');
  const frames = new MessageFrames();
  const answers: string[] = [];
  const state = { isEnded: false, error: null as Error | null };
  stream.on('data', (bytes: Buffer) => {
    frames.push(bytes);
    for (let message = frames.next(); message !== null; message = frames.next()) answers.push(shown(message));
  });
  stream.on('end', () => {
    state.isEnded = true;
  });
  stream.on('error', (error) => {
    state.error = error;
  });
  return { stream, answers, state };
}

const DENIED = bytesOf(query('no.example', 'A', { edns: null }));

test('questions that come byte by byte, or together, are answered; half a question at EOF is ignored', async (t) => {
  const { pair, closed } = served(t);
  const { stream, answers, state } = connected(pair);
  for (const byte of frameMessage(DENIED)) {
    stream.write(Buffer.from([byte]));
    await carryOn(pair);
  }
  t.deepEqual(answers, ['rcode 5']);
  stream.end(Buffer.concat([frameMessage(DENIED), frameMessage(DENIED), Buffer.from([0, 20, 1])]));
  await carryOn(pair);
  t.deepEqual(answers, ['rcode 5', 'rcode 5', 'rcode 5']);
  t.true(state.isEnded);
  t.deepEqual(closed, [null]);
  t.deepEqual(pair.b.session.streams.listAll(), [], 'it holds no place');
});

test('a stream without questions ends after 10 s, and is reset after another 10 s', async (t) => {
  const { pair, closed, target } = served(t);
  const { stream, state } = connected(pair);
  await carryOn(pair);
  pair.clock.advance(9999);
  stream.write(frameMessage(DENIED));
  await carryOn(pair);
  pair.clock.advance(9999);
  await carryOn(pair);
  t.false(state.isEnded);
  pair.clock.advance(1);
  await carryOn(pair);
  t.true(state.isEnded);
  t.is(target.openCount, 1);
  pair.clock.advance(10_000);
  await carryOn(pair);
  t.is(closed[0]?.code, 'stalled');
  t.is(target.openCount, 0);
});

test('a question announced with a length above the limit ends its stream', async (t) => {
  const { pair, closed } = served(t);
  const { stream, state } = connected(pair);
  stream.write(Buffer.from([0x10, 0x01]));
  await carryOn(pair);
  t.is(closed[0]?.code, 'protocol-error');
  t.regex(state.error?.message ?? '', /too long: 4097 bytes \(max 4096\)/);
});

test('a client that does not read its answers is no longer read', async (t) => {
  const { pair, refused, closed } = served(t);
  const stream = MuxStream.open(pair.a.session, 'dns');
  stream.on('error', () => undefined);
  const questions = Buffer.concat(Array.from({ length: 20_000 }, () => frameMessage(DENIED)));
  stream.write(questions);
  await carryOn(pair);
  for (let turn = 0; turn < 200; turn += 1) {
    pair.clock.advance(10);
    await carryOn(pair);
  }
  const answered = refused.length;
  t.true(answered > 1000 && answered < 10_000, String(answered));
  pair.clock.advance(20_000);
  await carryOn(pair);
  t.is(closed[0]?.code, 'stalled');
});

test('at most 16 questions of a stream are in flight', async (t) => {
  let asked = 0;
  const server = await dnsServer(t, () => {
    asked += 1;
    return [];
  });
  const { pair } = served(t, { rules: rulesOf(['*.example.org:443']), serverPort: server.port });
  const { stream } = connected(pair);
  for (let id = 0; id < 40; id += 1) stream.write(frameMessage(bytesOf(query(`n${id}.example.org`, 'A', { id }))));
  while (asked < 16) await carryOn(pair);
  // Further ones would have been asked by now.
  for (let turn = 0; turn < 20; turn += 1) await carryOn(pair);
  t.is(asked, 16);
});

test.serial('unread answers are bounded per stream, and for all streams of a service', async (t) => {
  const long = record('example.org', 'TXT', Buffer.alloc(60_000, 'x'));
  const server = await zoneServer(t, { TXT: [long] });
  const { pair, closed, target } = served(t, { serverPort: server.port, maxStreams: 200 });
  const asking = frameMessage(bytesOf(query('example.org', 'TXT')));
  const first = connected(pair);
  first.stream.write(asking);
  while (first.answers.length === 0) await carryOn(pair);
  t.regex(first.answers[0] ?? '', /^rcode 0; example\.org\. 300 TXT/);
  first.stream.destroy();
  await carryOn(pair);
  const before = await heapBytes();
  const unread = Array.from({ length: 199 }, () => {
    const stream = MuxStream.open(pair.a.session, 'dns');
    stream.on('error', () => undefined);
    stream.write(Buffer.concat(Array.from({ length: 64 }, () => asking)));
    return stream;
  });
  await carryOn(pair);
  t.true(target.openCount + closed.length >= unread.length);
  // Bytes that reached the side that does not read count there.
  const arrived = unread.reduce((sum, { readableLength }) => sum + readableLength, 0);
  const held = (await heapBytes()) - before - arrived;
  t.true(held < 16 * 2 ** 20, `${held}`);
});

test('questions beyond 5,000 per second wait on a stream, and are dropped and counted in a flow', async (t) => {
  const { pair, refused, target } = served(t);
  const received: Buffer[] = [];
  const flow = DatagramFlow.open(pair.a.session, 'dns', null, {
    onMessage: (message) => received.push(message),
    onClosed: () => undefined,
    onDropped: () => undefined,
  });
  await carryOn(pair);
  for (let turn = 0; turn < 110; turn += 1) {
    for (let count = 0; count < 50; count += 1) flow.send(DENIED);
    await carryOn(pair);
  }
  t.is(flow.sendDropped, 0);
  t.is(refused.length, 5000);
  t.is(target.messages?.received, 5000);
  t.is(target.messages?.receiveDropped, 500);
  t.is(received.length, 5000);
  const { stream, answers } = connected(pair);
  stream.write(Buffer.concat(Array.from({ length: 200 }, () => frameMessage(DENIED))));
  await carryOn(pair);
  t.is(answers.length, 0);
  for (let turn = 0; turn < 4; turn += 1) {
    pair.clock.advance(10);
    await carryOn(pair);
  }
  t.is(answers.length, 200);
});

test('questions that come all at once are answered in many turns of the event loop', async (t) => {
  const { pair, refused } = served(t);
  const { stream, answers } = connected(pair);
  stream.write(Buffer.concat(Array.from({ length: 2000 }, () => frameMessage(DENIED))));
  let turns = 0;
  for (let before = 0; answers.length < 2000; before = refused.length) {
    pair.step();
    await setImmediate();
    if (refused.length > before) turns += 1;
  }
  // Each takes 10 µs or more, and a turn one slice of a millisecond, or two.
  t.true(turns >= 5, `${turns}`);
});

test('streams and flows are counted together, and none prevents a hand-over', async (t) => {
  const { pair, target } = served(t, { rules: null });
  const events = { onMessage: () => undefined, onClosed: () => undefined, onDropped: () => undefined };
  DatagramFlow.open(pair.a.session, 'dns', null, events);
  connected(pair);
  await carryOn(pair);
  t.is(target.openCount, 2);
  const third = connected(pair);
  await carryOn(pair);
  t.like(third.state.error, { code: 'too-many-streams' });
  t.is(target.obstacles, undefined);
  t.is(target.connections, undefined);
  await target.stop();
  await carryOn(pair);
  t.is(target.openCount, 0);
});

test('a question without an answer fails, and the client gets an error', async (t) => {
  const silent = await dnsServer(t, () => []);
  const { pair } = served(t, { serverPort: silent.port });
  const { stream, answers, state } = connected(pair);
  stream.write(frameMessage(bytesOf(query('example.org'))));
  await carryOn(pair);
  for (const count of [1, 2]) {
    await eventually(() => silent.asked.length === count);
    pair.clock.advance(3000);
  }
  await carryUntil(
    pair,
    eventually(() => answers.length === 1),
  );
  t.deepEqual(answers, ["rcode 2; EDE 23 the host's resolver did not answer"]);
  t.false(state.isEnded);
});
