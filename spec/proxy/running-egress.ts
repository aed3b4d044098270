/** Egresses whose rules change while connections are open: entries for a while, a block, a reset, a reload, a successor. */
import type net from 'node:net';
import test, { type ExecutionContext } from 'ava';
import type { LogEvent } from '../../lib/events.js';
import { MAX_ADDED } from '../../lib/forward/egress/rules.js';
import type { ChannelEgress } from '../../lib/proxy/egress/definitions.js';
import { type EgressChanges, RunningEgresses } from '../../lib/proxy/egress/grants.js';
import { deferred } from '../../lib/util/concurrency.js';
import { rulesOf } from '../helpers/dns.js';
import { get, httpServer } from '../helpers/egress.js';
import {
  answerTo,
  echo,
  endsInOrder,
  failureOf,
  incoming,
  localServer,
  localSocket,
  proxyPair,
} from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** A host with an egress to an echo, `kept`, and a guest; `other` is an echo that no entry allows. */
async function setUp(t: ExecutionContext) {
  const clock = new ManualClock();
  const [kept, other] = [(await localServer(t, echo)).port, (await localServer(t, echo)).port];
  const egress = { internet: { allow: [`127.0.0.1:${kept}`], deny: ['127.0.0.9:*'] } };
  const here = { label: 'vm1', incoming: ['internet:egress:'], egress, clock };
  const { a: host, b: guest, path } = await proxyPair(t, { a: here, b: { outgoing: ['internet:0'] } });
  const entrance = guest.port('internet');
  const connect = async (port: number) => {
    const socket = localSocket(t, entrance);
    const place = `127.0.0.1:${port}`;
    const answer = await answerTo(socket, `CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
    return { socket, status: answer.split(' ')[1] };
  };
  const open = async (port: number): Promise<net.Socket> => {
    const { socket, status } = await connect(port);
    t.is(status, '200');
    t.is(await answerTo(socket, 'x'), 'x');
    return socket;
  };
  const isRefused = async (port: number) => (await connect(port)).status === '403';
  const own = { label: 'vm1', address: `unix-listen:${path}`, name: 'a', forwards: incoming('internet:egress:') };
  const apply = (rules: ChannelEgress = egress, more: object = {}) =>
    host.proxy.apply([{ ...own, egress: rules, ...more }]);
  const changes = (kind: string) =>
    host.all('egress-changed').flatMap(({ fields }) => (fields['change'] === kind ? [fields] : []));
  const status = () => host.proxy.listEgress().find(({ name }) => name === 'internet');
  return {
    changes,
    ...{ clock, host, proxy: host.proxy, entrance, kept, other, open, isRefused, apply, egress, status },
  };
}

test('a channel that replaces another knows the names that its resolvers answered', (t) => {
  const options = { clock: new ManualClock(), log: () => undefined, forwards: () => [], onRevoked: () => 0 };
  const [old, next] = [0, 1].map(() => new RunningEgresses('vm1', new Map(), options));
  old?.names.learn('internet', 'one.test', ['192.0.2.1'], 60);
  if (old !== undefined) next?.inherit(old);
  t.is(next?.names.nameOf('internet', { host: '192.0.2.1', family: 4, port: 443 }).host, 'one.test');
});

test('an added entry goes when its time is over, with the connections that it allowed', async (t) => {
  const { changes, clock, host, proxy, kept, other, open, isRefused, status } = await setUp(t);
  const third = (await localServer(t, echo)).port;
  t.true(await isRefused(other));
  const [own, entry, lasting] = [`127.0.0.1:${kept}`, `127.0.0.1:${other}`, `127.0.0.0/8:${third}`];
  proxy.allowEgress('internet', [entry], 1000, 'vm1');
  const extended = await open(other);
  proxy.allowEgress('internet', [own, entry], 2000, 'vm1');
  const changed = proxy.allowEgress('internet', [lasting], null);
  const [, second, last] = changed.added;
  t.deepEqual(changed, status());
  t.deepEqual(changed.rules?.allow, [own, own, entry, lasting]);
  t.deepEqual([second?.entry, last?.until], [entry, null]);
  t.true(Math.abs(Date.parse(second?.until ?? '') - Date.now()) < 60_000);
  const sockets = [await open(kept), extended, await open(third)] as const;
  clock.advance(1999);
  t.is(await answerTo(sockets[1], 'y'), 'y');
  const failed = failureOf(sockets[1]);
  clock.advance(1);
  t.is((await failed).code, 'ECONNRESET');
  t.true(await endsInOrder(sockets[0]));
  t.true(await endsInOrder(sockets[2]));
  t.true(await isRefused(other));
  clock.advance(1000);
  const [expired, ...more] = changes('expired');
  t.deepEqual(more, []);
  t.deepEqual(expired, {
    ...{ channel: 'vm1', egress: 'internet', change: 'expired', until: null, connections: 1 },
    entries: [own, entry],
  });
  t.is(host.all('egress').find(({ fields }) => fields['port'] === other)?.fields['code'], 'denied');
  t.deepEqual(status()?.added, [{ entry: lasting, until: null }]);
});

test('a name that is allowed for a while and leads to an allowed private address takes its connections with it', async (t) => {
  const { clock, host, proxy, kept, open, entrance } = await setUp(t);
  proxy.allowEgress('internet', [`localhost:${kept}`], 1000, 'vm1');
  const socket = localSocket(t, entrance);
  const place = `localhost:${kept}`;
  t.regex(await answerTo(socket, `CONNECT ${place} HTTP/1.1\r\nHost: ${place}\r\n\r\n`), /^HTTP\/1\.1 200 /);
  const byAddress = await open(kept);
  const failed = failureOf(socket);
  clock.advance(1000);
  t.is((await failed).code, 'ECONNRESET');
  t.is(await answerTo(byAddress, 'y'), 'y');
  t.is(host.all('egress')[0]?.fields['rule'], `allow "${place}"`);
});

test('what is open is listed with its destination and the entry that allowed it', async (t) => {
  const { host, proxy, entrance, kept, open } = await setUp(t);
  await open(kept);
  const rule = `allow "127.0.0.1:${kept}"`;
  const place = `127.0.0.1:${kept}`;
  const reached = { destination: place, address: place, rule };
  t.deepEqual(
    proxy.listStreams().map((stream) => stream.reached),
    [reached],
  );
  t.like(host.all('egress-opened')[0]?.fields, { egress: 'internet', host: '127.0.0.1', port: kept, rule });
  // A request in absolute form is not a tunnel.
  const { port } = await localServer(t, (socket) => {
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello'));
  });
  proxy.allowEgress('internet', [`127.0.0.1:${port}`], null);
  const asked = `GET http://127.0.0.1:${port}/ HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`;
  t.regex(await answerTo(localSocket(t, entrance), asked), /200 OK/);
  t.is(proxy.listStreams().at(-1)?.reached?.destination, `127.0.0.1:${port}`);
});

test('a block resets all that is open, and denies everything until a reset', async (t) => {
  const { changes, proxy, kept, other, open, isRefused, status } = await setUp(t);
  proxy.allowEgress('internet', [`127.0.0.1:${other}`], null);
  const failures = (await Promise.all([open(kept), open(other)])).map(failureOf);
  const blocked = proxy.blockEgress('internet');
  for (const failure of failures) t.is((await failure).code, 'ECONNRESET');
  t.like(blocked, { isBlocked: true, added: [], rules: { allow: [], deny: ['*:*'] } });
  t.like(changes('blocked')[0], {
    channel: 'vm1',
    egress: 'internet',
    connections: 2,
    entries: [`127.0.0.1:${other}`],
  });
  t.true(await isRefused(kept));
  const message = 'vm1/internet is blocked; end that first: vproxy egress reset vm1/internet';
  t.throws(() => proxy.allowEgress('internet', ['a.example:1'], null), { code: 'bad-argument', message });
  t.like(proxy.resetEgress('internet'), { isBlocked: false, added: [], rules: { deny: ['127.0.0.9:*'] } });
  const socket = await open(kept);
  t.true(await isRefused(other));
  proxy.allowEgress('internet', [`127.0.0.1:${other}`], null);
  const failed = failureOf(await open(other));
  proxy.resetEgress('internet');
  t.is((await failed).code, 'ECONNRESET');
  t.true(await endsInOrder(socket));
  t.deepEqual(
    changes('reset').map(({ connections, entries }) => [connections, entries]),
    [
      [0, []],
      [1, [`127.0.0.1:${other}`]],
    ],
  );
  t.false(status()?.isBlocked);
});

test('the answer of an origin server in progress is cut off, and its connection closed', async (t) => {
  const { host, proxy, entrance } = await setUp(t);
  const origins: net.Socket[] = [];
  const { port } = await localServer(t, (socket) => {
    origins.push(socket.on('error', () => undefined));
    socket.once('data', () => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello'));
  });
  proxy.allowEgress('internet', [`127.0.0.1:${port}`], null);
  const place = `127.0.0.1:${port}`;
  const socket = localSocket(t, entrance);
  const told = await answerTo(socket, `GET http://${place}/ HTTP/1.1\r\nHost: ${place}\r\n\r\n`);
  t.true(told.startsWith('HTTP/1.1 200 OK\r\n'));
  const failed = failureOf(socket);
  proxy.resetEgress('internet');
  t.is((await failed).code, 'ECONNRESET');
  await eventually(() => origins[0]?.destroyed === true);
  const { fields } = await eventually(() => host.all('egress').find((event) => event.fields['port'] === port));
  t.is(fields['code'], 'denied');
});

test('a deny of the configuration wins; invalid entries, times and names change nothing', async (t) => {
  const { proxy, status } = await setUp(t);
  const before = status();
  const refused = (code: string, message: RegExp, destinations: readonly string[], forMs?: number, name = 'internet') =>
    t.throws(() => proxy.allowEgress(name, destinations, forMs ?? null), { code, message });
  refused('bad-argument', /^entry "example\.org": missing ports; for all ports use example\.org:\*$/, ['example.org']);
  refused('bad-argument', /^entry "10\.1\.2\.3\/8:1": .* the network is 10\.0\.0\.0\/8$/, [
    'a.example:1',
    '10.1.2.3/8:1',
  ]);
  for (const forMs of [0, 999, 30 * 24 * 3_600_000 + 1, Number.NaN])
    refused('bad-argument', /^the time must be from 1 s to 2592000 s$/, ['a.example:1'], forMs);
  refused('not-found', /^no egress "internt" on channel vm1; did you mean internet\?$/, ['a:1'], 1000, 'internt');
  const many = Array.from({ length: MAX_ADDED }, (_, index) => `n${index}.example:1`);
  refused('bad-argument', /^vm1\/internet would have 257 added entries \(max 256\)$/, [...many, 'a:1']);
  t.throws(() => proxy.blockEgress('internt'), { code: 'not-found' });
  t.throws(() => proxy.resetEgress('internt'), { code: 'not-found' });
  t.deepEqual(status(), before);
  proxy.allowEgress('internet', many, null);
  // Again is not another one, however it is spelled.
  t.is(proxy.allowEgress('internet', ['N0.example.:1', 'N0.EXAMPLE:1'], 5000).added.length, MAX_ADDED);
  t.deepEqual(proxy.resetEgress('internet'), before);
  const { rules } = proxy.allowEgress('internet', ['127.0.0.0/8:80', '{channel}.internal:443'], null);
  t.deepEqual(rules?.allow.slice(1), ['127.0.0.0/8:80', 'vm1.internal:443']);
  t.like(await proxy.testEgress('internet', '127.0.0.8:80'), { isAllowed: true });
  t.like(await proxy.testEgress('internet', '127.0.0.9:80'), { isAllowed: false, rule: 'deny "127.0.0.9:*"' });
});

test('a reload keeps changes, also if it replaces the channel, unless the egress goes', async (t) => {
  const { changes, clock, proxy, apply, egress, status, other } = await setUp(t);
  proxy.allowEgress('internet', [`127.0.0.1:${other}`], 1000);
  t.deepEqual((await apply({ internet: { allow: ['a.example:1'] } })).changedEgress, ['vm1/internet']);
  t.deepEqual(status()?.rules?.allow, ['a.example:1', `127.0.0.1:${other}`]);
  t.deepEqual((await apply(egress, { waitMs: 1234 })).replacedChannels, ['vm1']);
  t.deepEqual(
    status()?.added.map(({ entry }) => entry),
    [`127.0.0.1:${other}`],
  );
  clock.advance(1000);
  t.deepEqual(status()?.added, []);
  t.is(changes('expired').length, 1);
  proxy.blockEgress('internet');
  await apply(egress, { waitMs: 1235 });
  t.true(status()?.isBlocked);
  t.deepEqual(changes('reset'), []);
  await apply({}, { waitMs: 1235, forwards: [] });
  t.is(changes('reset').length, 1);
  await apply(egress, { waitMs: 1235 });
  t.false(status()?.isBlocked);
});

for (const [how, options] of [
  ['by a reload', {}],
  ['with its channel, which is replaced', { waitMs: 1234 }],
] as const) {
  test(`an egress that goes ${how} takes its added entries with it, and the connections that they allowed`, async (t) => {
    const { changes, proxy, apply, other, open, status } = await setUp(t);
    const entry = `127.0.0.1:${other}`;
    proxy.allowEgress('internet', [entry], null);
    const failed = failureOf(await open(other));
    await apply({}, { ...options, forwards: [] });
    t.is((await failed).code, 'ECONNRESET');
    t.deepEqual(
      changes('reset').map(({ entries, connections }) => [entries, connections]),
      [[[entry], 1]],
    );
    await apply(undefined, options);
    t.deepEqual(status()?.added, []);
  });
}

test('added entries end with their channel, and that is logged', async (t) => {
  const { changes, host, other } = await setUp(t);
  host.proxy.allowEgress('internet', [`127.0.0.1:${other}`], 60_000);
  await host.proxy.removeChannel('vm1');
  t.like(changes('reset')[0], { egress: 'internet', entries: [`127.0.0.1:${other}`] });
});

test('a connection that the configuration allowed does not go with an added entry of the same text', async (t) => {
  const { changes, proxy, apply, kept, open } = await setUp(t);
  const entry = `127.0.0.1:${kept}`;
  const configured = await open(kept);
  proxy.allowEgress('internet', [entry], null);
  await apply({ internet: { allow: ['a.example:1'] } });
  const added = failureOf(await open(kept));
  proxy.resetEgress('internet');
  t.is((await added).code, 'ECONNRESET');
  t.like(changes('reset')[0], { connections: 1 });
  t.is(await answerTo(configured, 'y'), 'y');
});

test('an entry is over when its time is, though the machine was suspended meanwhile', (t) => {
  let suspendedMs = 0;
  const clock = Object.assign(new ManualClock(), { upMs: (): number => clock.now() + suspendedMs });
  const configured = new Map([['internet', rulesOf([])]] as const);
  const events: LogEvent[] = [];
  const log = (event: LogEvent) => void events.push(event);
  const options = { clock, log, forwards: () => [], onRevoked: () => 0 };
  const egresses = new RunningEgresses('vm1', configured, options);
  egresses.allow('internet', ['a.example:1'], 3_600_000);
  clock.advance(60_000);
  t.is(egresses.list()[0]?.added.length, 1);
  suspendedMs = 3_540_000;
  clock.advance(1000);
  t.deepEqual(egresses.list()[0]?.added, []);
  t.is(events.at(-1)?.fields['change'], 'expired');
  egresses.stop();
});

test('a successor has the changes, and their ends', (t) => {
  const clock = new ManualClock();
  const configured = new Map([
    ['internet', rulesOf(['a.example:1'])],
    ['api', rulesOf(['*:443'])],
  ] as const);
  const world = (state?: EgressChanges) => {
    const events: LogEvent[] = [];
    const revoked: (readonly string[] | null)[] = [];
    const options = {
      ...{ clock, log: (event: LogEvent) => events.push(event), forwards: () => [] },
      onRevoked: (_name: string, rules: ReadonlySet<string> | null) => revoked.push(rules && [...rules]),
    };
    return { events, revoked, egresses: new RunningEgresses('vm1', configured, options, state) };
  };
  const { egresses: before } = world();
  const days = 30 * 24 * 3_600_000;
  before.allow('internet', ['b.example:2'], days);
  before.allow('internet', ['c.example:3'], null);
  before.block('api');
  clock.advance(1000);
  const state = structuredClone(before.changes);
  const list = before.list();
  before.stop();
  t.is(clock.pending, 0);
  const { egresses, events, revoked } = world(state);
  t.deepEqual(egresses.list(), list);
  t.is(clock.pending, 0);
  egresses.goOn();
  const rules = egresses.egresses.get('internet');
  clock.jump(days - 2001);
  clock.advance(1000);
  t.is(egresses.egresses.get('internet'), rules);
  clock.advance(1);
  t.deepEqual(
    egresses.list().map(({ added, isBlocked }) => [added.map(({ entry }) => entry), isBlocked]),
    [
      [['c.example:3'], false],
      [[], true],
    ],
  );
  t.deepEqual(
    events.map(({ fields }) => fields['change']),
    ['expired'],
  );
  t.deepEqual(revoked, [['allow "b.example:2"']]);
  t.is(clock.pending, 0);
});

test('nothing waits for the end of an entry once its channel has stopped', (t) => {
  const clock = new ManualClock();
  const log = () => undefined;
  const configured = new Map([['internet', rulesOf([])]] as const);
  const options = { clock, log, forwards: () => [], onRevoked: () => 0 };
  const egresses = new RunningEgresses('vm1', configured, options);
  egresses.allow('internet', ['a.example:1'], 1000);
  t.is(clock.pending, 1);
  egresses.stop();
  t.is(clock.pending, 0);
  egresses.allow('internet', ['b.example:1'], 1000);
  t.is(clock.pending, 0);
});

test('what an upgrade ends is on record when it hands over, also a connection that has become idle since it last looked', async (t) => {
  const { proxy, entrance } = await setUp(t);
  const answered = deferred();
  const port = await httpServer(t, (_, response) => void answered.promise.then(() => response.end('ok')));
  const place = `127.0.0.1:${port}`;
  proxy.allowEgress('internet', [place], null);
  const audited: string[] = [];
  proxy.on('audit', ({ event }) => audited.push(event));
  const socket = localSocket(t, entrance);
  socket.once('end', () => socket.end());
  const answer = answerTo(socket, get(place));
  await eventually(() => proxy.obstacles().length === 1);
  answered.resolve();
  t.regex(await answer, / 200 OK/);
  // A look that finds nothing is followed by the hand-over, in the same turn.
  await eventually(() => proxy.obstacles().length === 0 && !proxy.letWait(true));
  const before = [...audited];
  proxy.capture(() => 0);
  socket.resume();
  await eventually(() => proxy.listStreams().length === 0);
  t.true(before.includes('egress'));
  t.deepEqual(
    audited.filter((event) => event === 'egress'),
    ['egress'],
  );
});
