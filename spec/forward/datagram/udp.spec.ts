/** UDP forwards between two proxies, with programs at both ends. */

import { lookup } from 'node:dns/promises';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { MAX_DATAGRAM_BYTES } from '../../../lib/codec/datagram-messages.js';
import { parseForwardSpec } from '../../../lib/forward/spec.js';
import type { BoundDatagramsEvents } from '../../../lib/system/datagrams/datagrams.js';
import { SendTurns, UdpSocket } from '../../../lib/system/datagrams/udp.js';
import { temporaryFolder } from '../../helpers/files.js';
import { freePort } from '../../helpers/ports.js';
import { echo, forwardOf, localServer, type ProxySetup, portOf, proxyPair, startProxy } from '../../helpers/proxies.js';
import { CuttingRelay } from '../../helpers/relays.js';
import { eventually, ManualClock } from '../../helpers/time.js';
import { UdpProgram } from '../../helpers/udp.js';

/** Two proxies: datagrams to `port` of `a` go to a target of `b`. */
async function setUp(t: ExecutionContext, target: number, a: ProxySetup = {}, b: ProxySetup = {}) {
  const pair = await proxyPair(t, { targets: `dns:udp:${target}`, a: { outgoing: ['dns:udp:0'], ...a }, b });
  return { ...pair, port: pair.a.port('dns') };
}

/** Uses up the time of a turn of the event loop. */
const useTurn = (): void => {
  const untilMs = performance.now() + 2;
  while (performance.now() < untilMs);
};

test('messages of 0 to 65,507 bytes keep their boundaries in both directions, and are counted on both sides', async (t) => {
  const { a, b, port } = await setUp(t, (await UdpProgram.openEcho(t)).port);
  const client = await UdpProgram.open(t);
  const sizes = [0, 1, 511, 512, 1472, 9000, 65_506, MAX_DATAGRAM_BYTES];
  for (const [index, size] of sizes.entries()) {
    client.send(Buffer.alloc(size, index), port);
    await client.came(index + 1);
  }
  const lengths = client.messages.map(({ bytes }) => bytes.length);
  t.deepEqual(lengths, sizes);
  t.true(client.messages.every(({ bytes }, index) => bytes.every((byte) => byte === index)));
  const counts = { sent: sizes.length, sendDropped: 0, received: sizes.length, receiveDropped: 0 };
  for (const side of [a, b]) {
    t.deepEqual(forwardOf(side).datagrams, counts);
    t.is(forwardOf(side).streams, 1);
    const listed = side.proxy.listStreams().map(({ datagrams }) => datagrams);
    t.deepEqual(listed, [counts]);
  }
});

test('a message that cannot be sent is lost, not sent again as if it had met the error of an earlier one', async (t) => {
  const target = await UdpProgram.open(t);
  const told: string[] = [];
  const events = { onMessage: () => undefined, onError: () => told.push('error') };
  const socket = await UdpSocket.connect({ host: '127.0.0.1', port: target.port }, events, new SendTurns());
  t.teardown(() => socket.close());
  await new Promise<void>((resolve) => {
    socket.send(Buffer.alloc(70_000), () => resolve(void told.push('lost')));
  });
  t.deepEqual(told, ['lost']);
});

test('closing a bound socket sends at once what waits for later turns', async (t) => {
  const asker = await UdpProgram.open(t);
  const onMessage: BoundDatagramsEvents['onMessage'] = (_, source) => {
    source.answer(Buffer.from('now'), () => t.fail());
    useTurn();
    for (const text of ['later', 'last']) source.answer(Buffer.from(text), () => t.fail());
    socket.close();
  };
  const socket = await UdpSocket.bind({ host: '127.0.0.1', port: 0 }, { onMessage, onError: () => t.fail() });
  asker.send('x', socket.port);
  await asker.came(3);
  t.deepEqual(asker.texts, ['now', 'later', 'last']);
});

test('a closed socket that still sends does not report that a message of its was refused', async (t) => {
  const target = await UdpProgram.open(t);
  const events = { onMessage: () => undefined, onError: () => t.fail() };
  const turns = new SendTurns();
  const socket = await UdpSocket.connect({ host: '127.0.0.1', port: target.port }, events, turns);
  target.close();
  socket.send(Buffer.from('refused'), () => t.fail());
  useTurn();
  turns.later(useTurn);
  socket.send(Buffer.from('later'), () => t.fail());
  socket.close();
  await new Promise<void>((resolve) => turns.later(resolve));
  t.pass();
});

test('messages are lost while 4 MiB wait for later turns, and after the close', async (t) => {
  const target = await UdpProgram.open(t);
  const events = { onMessage: () => undefined, onError: () => t.fail() };
  const socket = await UdpSocket.connect({ host: '127.0.0.1', port: target.port }, events, new SendTurns());
  let lostCount = 0;
  const send = (bytes: number): void => socket.send(Buffer.alloc(bytes), () => void (lostCount += 1));
  send(1);
  useTurn();
  for (let sent = 0; sent < 72; sent += 1) send(60_000);
  t.is(lostCount, 3);
  socket.close();
  send(1);
  t.is(lostCount, 4);
});

test('the sockets of a target share the bound on what waits for later turns', async (t) => {
  const target = await UdpProgram.open(t);
  const turns = new SendTurns();
  const events = { onMessage: () => undefined, onError: () => t.fail() };
  const address = { host: '127.0.0.1', port: target.port };
  const sockets = await Promise.all([1, 2].map(() => UdpSocket.connect(address, events, turns)));
  t.teardown(() => sockets.forEach((socket) => socket.close()));
  turns.waiting.reserve(turns.waiting.limitBytes - 100_000);
  sockets[0]?.send(Buffer.alloc(1), () => t.fail());
  useTurn();
  const lost: number[] = [];
  for (const [index, socket] of sockets.entries()) socket.send(Buffer.alloc(60_000), () => void lost.push(index));
  t.deepEqual(lost, [1]);
});

test('IPv6 and names work, too', async (t) => {
  // The machine chooses one of its addresses.
  const { address } = await lookup('localhost');
  const target = await UdpProgram.openEcho(t, 0, address);
  const outgoing = ['dns:udp:[::ffff:127.0.0.1]:0'];
  const { a } = await proxyPair(t, { targets: `dns:udp:localhost:${target.port}`, a: { outgoing } });
  t.regex(forwardOf(a).endpoint, /^udp:\[::ffff:127\.0\.0\.1\]:\d+$/);
  const client = await UdpProgram.open(t);
  client.send('hello', a.port('dns'));
  await client.came(1);
  t.deepEqual(client.texts, ['hello']);
});

test('each source address has its own flow, and answers go nowhere else', async (t) => {
  const target = await UdpProgram.open(t);
  const { b, port } = await setUp(t, target.port);
  const clients = await Promise.all(Array.from({ length: 5 }, () => UdpProgram.open(t)));
  for (const [index, client] of clients.entries()) client.send(`question ${index}`, port);
  const questions = await target.came(clients.length);
  t.is(new Set(questions.map((question) => question.port)).size, clients.length);
  t.is(forwardOf(b).streams, clients.length);
  for (const question of [...questions].reverse())
    for (const part of [1, 2])
      target.send(`${question.bytes.toString().replace('question', 'answer')}.${part}`, question.port);
  for (const [index, client] of clients.entries()) {
    await client.came(2);
    t.deepEqual(client.texts, [`answer ${index}.1`, `answer ${index}.2`]);
  }
});

test('an answer from another address does not arrive', async (t) => {
  const target = await UdpProgram.open(t);
  const { port } = await setUp(t, target.port);
  const [client, stranger] = [await UdpProgram.open(t), await UdpProgram.open(t)];
  client.send('question', port);
  const [question] = await target.came(1);
  const flowPort = question?.port ?? 0;
  for (let count = 0; count < 50; count += 1) stranger.send('spoofed', flowPort);
  target.send('answer', flowPort);
  await client.came(1);
  // One more round trip: everything before has arrived by then.
  client.send('again', port);
  await target.came(2);
  target.send('answer again', flowPort);
  await client.came(2);
  t.deepEqual(client.texts, ['answer', 'answer again']);
});

test('a flow ends after 60 s without messages, and the next message opens another', async (t) => {
  const clock = new ManualClock();
  const target = await UdpProgram.openEcho(t);
  const { a, b, port } = await setUp(t, target.port, { clock });
  const client = await UdpProgram.open(t);
  const ask = async (count: number): Promise<void> => {
    client.send('x', port);
    await client.came(count);
  };
  await ask(1);
  clock.advance(59_000);
  await ask(2);
  clock.advance(59_999);
  t.is(forwardOf(a).streams, 1);
  clock.advance(1);
  await eventually(() => forwardOf(a).streams === 0 && forwardOf(b).streams === 0, { what: 'the end of the flow' });
  t.regex((await b.event('stream-closed')).message, /has ended/);
  await ask(3);
  t.is(forwardOf(a).opened, 2);
  t.is(new Set(target.messages.map((message) => message.port)).size, 2);
  t.deepEqual(forwardOf(a).datagrams, { sent: 3, sendDropped: 0, received: 3, receiveDropped: 0 });
});

test('flows are limited to half of the streams that the peer accepts; the one idle for longest makes room', async (t) => {
  const target = await UdpProgram.openEcho(t);
  const incoming = [`dns:udp:${target.port}`, `also:udp:${target.port}`];
  const { a } = await proxyPair(t, {
    options: ',streams=8',
    a: { outgoing: ['dns:udp:0', 'also:udp:0'] },
    b: { incoming },
  });
  const clients = await Promise.all(Array.from({ length: 5 }, () => UdpProgram.open(t)));
  const ask = async (index: number, count: number): Promise<void> => {
    const client = clients[index] as UdpProgram;
    client.send('x', a.port(index % 2 === 0 ? 'dns' : 'also'));
    await client.came(count);
  };
  for (const index of [0, 1, 2, 3]) await ask(index, 1);
  await ask(0, 2);
  // The second client's flow has been idle for longest.
  await ask(4, 1);
  const open = () => a.proxy.listStreams().map(({ from }) => Number(/\d+$/.exec(from ?? '')?.[0]));
  await eventually(() => open().length === 4, { what: 'the end of the idlest' });
  const left = [0, 2, 3, 4].map((index) => clients[index]?.port ?? 0);
  t.deepEqual(open().sort(), left.sort());
  await ask(1, 2);
});

test('without a listener at the target the flow continues, and lost messages are counted and logged', async (t) => {
  const clock = new ManualClock();
  const gone = await UdpProgram.open(t);
  const { port: targetPort } = gone;
  gone.close();
  const { a, b, port } = await setUp(t, targetPort, {}, { clock });
  const client = await UdpProgram.open(t);
  client.send('lost', port);
  const { message } = await b.event('target-failed');
  t.regex(message, /udp:127\.0\.0\.1:\d+ \(dns\) does not accept datagrams: .*ECONNREFUSED/);
  client.send('lost as well', port);
  await eventually(() => forwardOf(b).datagrams?.receiveDropped === 2, { what: 'two that are counted' });
  t.is(b.count('target-failed'), 1);
  clock.advance(10_000);
  t.regex((await b.event('datagrams-dropped')).message, /^datagrams dropped at udp:.*: 2 from the peer$/);
  t.is(forwardOf(a).streams, 1);
  const target = await UdpProgram.openEcho(t, targetPort);
  client.send('arrives', port);
  await client.came(1);
  t.deepEqual(target.texts, ['arrives']);
  t.is(forwardOf(b).opened, 1);
});

test('messages without a session, or for a service that is not offered, are dropped, counted and logged', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const clock = new ManualClock();
  const a = await startProxy(t, `unix-listen:${path}`, { outgoing: ['dns:udp:0'], clock });
  const client = await UdpProgram.open(t);
  const dropped = (count: number) =>
    eventually(() => forwardOf(a).datagrams?.sendDropped === count, { what: `${count} dropped` });
  client.send('too early', a.port('dns'));
  await dropped(1);
  clock.advance(10_000);
  t.regex((await a.event('datagrams-dropped')).message, /^datagrams dropped at udp:.* \(dns\): 1 for the peer$/);

  const b = await startProxy(t, `unix-connect:${path}`, { incoming: ['other:9'] });
  await a.event('session-established');
  client.send('refused', a.port('dns'));
  const refused = await a.event('stream-refused');
  t.regex(
    refused.message,
    /a datagram flow to .* \(dns\) was reset: service dns is not offered; the peer offers: other \(unknown-service\)/,
  );
  client.send('not asked again for a second', a.port('dns'));
  await eventually(() => (forwardOf(a).datagrams?.sendDropped ?? 0) >= 2, { what: 'the second one dropped' });
  t.is(a.count('stream-refused'), 1);
  const target = await UdpProgram.openEcho(t);
  await b.proxy.addForward(parseForwardSpec('incoming', `dns:udp:${target.port}`));
  clock.advance(1000);
  client.send('arrives', a.port('dns'));
  await client.came(1);
  t.deepEqual(client.texts, ['arrives']);
});

test('messages that the system drops, as the buffer of a socket is full, are counted and logged on both sides', async (t) => {
  const BURST = 6000;
  const clock = new ManualClock();
  const target = await UdpProgram.open(t);
  const { a, b, port } = await setUp(t, target.port, { clock }, { clock });
  const client = await UdpProgram.open(t);
  const isCounted = (side: typeof a, count: number): boolean => {
    const { sent = 0, sendDropped = 0 } = forwardOf(side).datagrams ?? {};
    return sent + sendDropped === count;
  };
  client.send('the first opens the flow', port);
  const [first] = await target.came(1);
  const burst = Buffer.alloc(1000);
  for (const bursts of [1, 2]) {
    const since = { a: a.events.length, b: b.events.length };
    // In one turn, in which nobody reads.
    for (let count = 0; count < BURST; count += 1) client.send(burst, port);
    for (let count = 0; count < BURST; count += 1) target.send(burst, first?.port ?? 0);
    await eventually(() => isCounted(a, bursts * BURST + 1), { what: 'every message to the forward' });
    await eventually(() => isCounted(b, bursts * BURST), { what: 'every answer' });
    clock.advance(10_000);
    for (const [side, from] of [
      [a, since.a],
      [b, since.b],
    ] as const) {
      const { message, fields } = await side.event('datagrams-dropped', from);
      t.regex(message, /: \d+ for the peer \(\d+ by the system: its buffer was full\)/);
      t.true(Number(fields['systemDropped']) > 0 && Number(fields['systemDropped']) < BURST, message);
    }
  }
});

test('one service can have streams and datagrams, each with its own forward', async (t) => {
  const server = await localServer(t, echo);
  const { port: target } = await UdpProgram.openEcho(t);
  const both = { incoming: [`dns:udp:${target}`, `dns:${server.port}`] };
  const { a, b, port } = await setUp(t, target, {}, both);
  const client = await UdpProgram.open(t);
  const ask = async (question: string): Promise<void> => {
    client.send(question, port);
    await eventually(() => client.texts.includes(question));
  };
  await ask('a datagram');
  const stream = await a.proxy.connect('dns');
  stream.end('a stream');
  t.is(await text(stream), 'a stream');
  const [datagrams, streams] = b.proxy.listForwards();
  t.deepEqual(
    b.proxy.listServices().map(({ service, forward }) => [service, forward]),
    [
      ['dns', datagrams?.id],
      ['dns', streams?.id],
    ],
  );
  t.deepEqual(a.proxy.channel('default').session?.peer.services, ['dns']);
  for (const spec of both.incoming) {
    await t.throwsAsync(b.proxy.addForward(parseForwardSpec('incoming', spec)), {
      message: /^service dns is offered twice/,
    });
  }
  await b.proxy.removeForward(streams?.id ?? '');
  await t.throwsAsync(a.proxy.connect('dns'), { message: /^service dns takes datagrams, not streams/ });
  await ask('another datagram');
  await b.proxy.removeForward(datagrams?.id ?? '', { isDraining: false });
  await b.proxy.addForward(parseForwardSpec('incoming', `dns:${server.port}`));
  const since = a.events.length;
  // From another port, which has no flow yet.
  (await UdpProgram.open(t)).send('lost', port);
  const { message } = await a.event('stream-refused', since);
  t.regex(message, /^.*service dns takes streams, not datagrams; the peer offers/);
});

test('a flow continues with the session on another channel', async (t) => {
  const { relay, near, far } = await CuttingRelay.between(t);
  const target = await UdpProgram.openEcho(t);
  const a = await startProxy(t, `unix-listen:${far},resume=60s`, { outgoing: ['dns:udp:0'] });
  await startProxy(t, `unix-connect:${near},resume=60s`, { incoming: [`dns:udp:${target.port}`] });
  await a.event('session-established');
  const client = await UdpProgram.open(t);
  client.send('before', a.port('dns'));
  await client.came(1);
  relay.cut();
  await a.event('session-suspended');
  for (let count = 0; count < 10; count += 1) client.send(`while ${count}`, a.port('dns'));
  await a.event('session-resumed');
  await client.came(11);
  t.is(forwardOf(a).opened, 1);
  t.is(client.texts.at(-1), 'while 9');
});

test('an address in use is reported with its owner; TCP and UDP ports are independent', async (t) => {
  const a = await startProxy(t, `unix-listen:${join(temporaryFolder(t), 'channel.sock')}`);
  const add = (place: string) => a.proxy.addForward(parseForwardSpec('outgoing', `x:${place}`));
  const isTaken = (place: string, message: RegExp) => t.throwsAsync(add(place), { code: 'address-in-use', message });
  const taken = `127.0.0.1:${(await UdpProgram.open(t)).port}`;
  await isTaken(`udp:${taken}`, new RegExp(`^cannot listen on ${taken}: already in use by this process$`));
  const { endpoint } = await add('udp:127.0.0.1:0');
  await isTaken(endpoint, /already in use by forward f\d+, -o x:udp:127\.0\.0\.1:0$/);
  // A port outside the system's range: one that it picks could be in use for TCP.
  const port = await freePort();
  await add(`udp:127.0.0.1:${port}`);
  await localServer(t, () => undefined, { host: '127.0.0.1', port });
  await isTaken(`127.0.0.1:${port}`, /already in use by this process/);
});

test('removing a forward frees its port and ends its flows; without the forward of the target messages are dropped', async (t) => {
  const { a, b, port } = await setUp(t, (await UdpProgram.openEcho(t)).port);
  const client = await UdpProgram.open(t);
  client.send('x', port);
  await client.came(1);
  await b.proxy.removeForward(forwardOf(b).id, { isDraining: false });
  await eventually(() => forwardOf(a).streams === 0, { what: 'the end of the flow' });
  client.send('y', port);
  t.regex((await a.event('stream-refused')).message, /service dns is not offered/);
  const counted = () => (forwardOf(a).datagrams?.sendDropped ?? 0) + (forwardOf(a).datagrams?.sent ?? 0);
  await eventually(() => counted() === 2, { what: 'the count of both' });

  const target = await UdpProgram.openEcho(t);
  await b.proxy.addForward(parseForwardSpec('incoming', `also:udp:${target.port}`));
  const { id, endpoint } = await a.proxy.addForward(parseForwardSpec('outgoing', 'also:udp:0'));
  client.send('z', portOf(endpoint));
  await client.came(2);
  await a.proxy.removeForward(id, { isDraining: true });
  await eventually(() => forwardOf(b).streams === 0, { what: 'the end of the flow at the target' });
  const next = await UdpProgram.open(t, portOf(endpoint));
  t.is(next.port, portOf(endpoint));
});
