/** Unix datagram forwards between two proxies, with programs at both ends. */
import { existsSync, lstatSync, mkdirSync, readdirSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { MAX_DATAGRAM_BYTES } from '../../../lib/codec/datagram-messages.js';
import { parseForwardSpec } from '../../../lib/forward/spec.js';
import { temporaryFolder } from '../../helpers/files.js';
import { forwardOf, type ProxySetup, proxyPair, startProxy, type TestProxy } from '../../helpers/proxies.js';
import { serialTestWith, testWith } from '../../helpers/test-with.js';
import { eventually, ManualClock } from '../../helpers/time.js';
import { UdpProgram } from '../../helpers/udp.js';
import { UnixgramProgram } from '../../helpers/unixgram.js';

/** Two proxies: datagrams to the path `log` of `a` go to `target` of `b`. */
async function setUp(t: ExecutionContext, b: ProxySetup = {}) {
  const folder = temporaryFolder(t);
  const [log, target] = [join(folder, 'log'), join(folder, 'target')];
  const a = { outgoing: [`syslog:unixgram:${log}`] };
  return { ...(await proxyPair(t, { targets: `syslog:unixgram:${target}`, a, b })), folder, log, target };
}

const datagramsOf = (side: TestProxy) => {
  const { datagrams } = forwardOf(side);
  if (datagrams === null) throw new Error('it has no datagrams');
  return datagrams;
};

testWith('python')('messages of 0 to 65,507 bytes keep their boundaries both ways, and both sides count', async (t) => {
  const { a, b, folder, log, target } = await setUp(t);
  const server = await UnixgramProgram.open(t, { at: target, isEcho: true });
  const client = await UnixgramProgram.open(t, { at: join(folder, 'client') });
  const sizes = [0, 1, 2048, 65_506, MAX_DATAGRAM_BYTES, 0, 3];
  for (const [index, size] of sizes.entries()) {
    t.is(await client.send(Buffer.alloc(size, index), log), '');
    await client.came(index + 1);
  }
  for (const program of [client, server]) {
    const lengths = program.messages.map(({ bytes }) => bytes.length);
    t.deepEqual(lengths, sizes);
    t.true(program.messages.every(({ bytes }, index) => bytes.every((byte) => byte === index)));
  }
  t.true(client.messages.every(({ from }) => from === log));
  const counts = { sent: sizes.length, sendDropped: 0, received: sizes.length, receiveDropped: 0 };
  for (const side of [a, b]) t.deepEqual(datagramsOf(side), counts);
  const senders = b.proxy.listStreams().map(({ from }) => from);
  t.deepEqual(senders, [join(folder, 'client')]);
});

testWith('python')('a message of more than 65,507 bytes is dropped and counted, whole, at either side', async (t) => {
  const { a, b, folder, log, target } = await setUp(t);
  const server = await UnixgramProgram.open(t, { at: target });
  const client = await UnixgramProgram.open(t, { at: join(folder, 'client') });
  for (const size of [MAX_DATAGRAM_BYTES + 1, 100_000, 5]) t.is(await client.send(Buffer.alloc(size), log), '');
  const [first] = await server.came(1);
  t.is(first?.bytes.length, 5);
  t.is(datagramsOf(a).sendDropped, 2);
  for (const size of [MAX_DATAGRAM_BYTES + 1, 6]) await server.send(Buffer.alloc(size), first?.from ?? '');
  t.is((await client.came(1))[0]?.bytes.length, 6);
  t.is(datagramsOf(b).sendDropped, 1);
});

testWith('python')('each sending path has its own flow, and answers go nowhere else', async (t) => {
  const { b, folder, log, target } = await setUp(t);
  const server = await UnixgramProgram.open(t, { at: target });
  const names = [join(folder, 'one'), join(folder, 'grüße'), `@vproxy-spec-${process.pid}`];
  const clients = await Promise.all(names.map((at) => UnixgramProgram.open(t, { at })));
  for (const [index, client] of clients.entries()) await client.send(`question ${index}`, log);
  const questions = await server.came(clients.length);
  t.is(new Set(questions.map(({ from }) => from)).size, clients.length);
  t.deepEqual(
    b.proxy
      .listStreams()
      .map(({ from }) => from)
      .sort(),
    [...names].sort(),
  );
  for (const { bytes, from } of [...questions].reverse()) await server.send(`answer to ${bytes.toString()}`, from);
  for (const [index, client] of clients.entries()) {
    await client.came(1);
    t.deepEqual(client.texts, [`answer to question ${index}`]);
  }
});

testWith('python')('senders with no address, or a relative one, share a flow; answers count as dropped', async (t) => {
  const { a, b, folder, log, target } = await setUp(t);
  const server = await UnixgramProgram.open(t, { at: target, isEcho: true });
  const cwd = join(folder, 'elsewhere');
  mkdirSync(cwd);
  const clients = [
    await UnixgramProgram.open(t),
    await UnixgramProgram.open(t),
    await UnixgramProgram.open(t, { at: 'relative', cwd }),
  ];
  for (const [index, client] of clients.entries()) await client.send(`line ${index}`, log);
  await server.came(clients.length);
  await eventually(() => datagramsOf(a).receiveDropped === clients.length, { what: 'the answers dropped' });
  const senders = b.proxy.listStreams().map(({ from }) => from);
  t.deepEqual(senders, [null]);
  t.true(clients.every(({ messages }) => messages.length === 0));
});

testWith('python')('an answer from another address does not arrive', async (t) => {
  const { folder, log, target } = await setUp(t);
  const server = await UnixgramProgram.open(t, { at: target });
  const client = await UnixgramProgram.open(t, { at: join(folder, 'client') });
  const stranger = await UnixgramProgram.open(t, { at: join(folder, 'stranger') });
  await client.send('question', log);
  const [question] = await server.came(1);
  t.is(await stranger.send('spoofed', question?.from ?? ''), 'Operation not permitted');
  await server.send('answer', question?.from ?? '');
  await client.came(1);
  t.deepEqual(client.texts, ['answer']);
});

testWith('python')('messages of a unix socket can go to UDP, and vice versa', async (t) => {
  const folder = temporaryFolder(t);
  const [log, target] = [join(folder, 'log'), join(folder, 'target')];
  const udp = await UdpProgram.openEcho(t);
  const { a } = await proxyPair(t, {
    a: { outgoing: [`one:unixgram:${log}`, 'other:udp:0'] },
    b: { incoming: [`one:udp:${udp.port}`, `other:unixgram:${target}`] },
  });
  const client = await UnixgramProgram.open(t, { at: join(folder, 'client') });
  await client.send('to UDP', log);
  await client.came(1);
  t.deepEqual([udp.texts, client.texts], [['to UDP'], ['to UDP']]);
  const server = await UnixgramProgram.open(t, { at: target, isEcho: true });
  const asker = await UdpProgram.open(t);
  asker.send('from UDP', a.port('other'));
  await asker.came(1);
  t.deepEqual([server.texts, asker.texts], [['from UDP'], ['from UDP']]);
});

testWith('python')('without a receiver the flow continues, and losses are counted; a later one serves', async (t) => {
  const clock = new ManualClock();
  const { a, b, log, target } = await setUp(t, { clock });
  const client = await UnixgramProgram.open(t);
  await client.send('lost', log);
  t.regex(
    (await b.event('target-failed')).message,
    /^unixgram:\/\S+\/target \(syslog\) does not accept datagrams: no such file or directory \(ENOENT\); dropping them$/,
  );
  const first = await UnixgramProgram.open(t, { at: target });
  await client.send('within a second of looking', log);
  await eventually(() => datagramsOf(b).receiveDropped === 2, { what: 'two that are counted' });
  clock.advance(1000);
  await client.send('arrives', log);
  await first.came(1);
  t.deepEqual(first.texts, ['arrives']);

  await first.close();
  unlinkSync(target);
  const second = await UnixgramProgram.open(t, { at: target });
  await client.send('to the next one', log);
  await second.came(1);
  t.deepEqual(second.texts, ['to the next one']);
  t.is(forwardOf(a).streams, 1);
  t.is(forwardOf(b).opened, 1);
  t.is(b.events.filter(({ event }) => event === 'target-failed').length, 1);
  t.deepEqual(datagramsOf(b), { sent: 0, sendDropped: 0, received: 2, receiveDropped: 2 });
});

testWith('python')('a receiver that does not read holds up nothing, and lost messages are counted', async (t) => {
  const { a, b, log, target } = await setUp(t);
  const server = await UnixgramProgram.open(t, { at: target, isReading: false });
  const client = await UnixgramProgram.open(t);
  const COUNT = 5000;
  t.is(await client.send(Buffer.alloc(1000), log, COUNT), '');
  const { sent, sendDropped } = await eventually(
    () => {
      const counts = datagramsOf(a);
      return counts.sent + counts.sendDropped === COUNT && counts;
    },
    { what: 'all taken' },
  );
  t.is(sent + sendDropped, COUNT);
  await eventually(() => datagramsOf(b).received + datagramsOf(b).receiveDropped === sent, { what: 'all through' });
  const { received, receiveDropped } = datagramsOf(b);
  t.true(receiveDropped > 0, `${receiveDropped} dropped`);
  server.read();
  await server.came(received);
  await client.send('the last', log);
  await server.came(received + 1);
  t.is(server.texts.at(-1), 'the last');
  t.is(datagramsOf(b).receiveDropped, receiveDropped);
});

testWith('python')('a receiver with a short queue gets all of a waiting burst', async (t) => {
  const { b, log, target } = await setUp(t);
  const server = await UnixgramProgram.open(t, { at: target, isReading: false });
  const client = await UnixgramProgram.open(t);
  // More than net.unix.max_dgram_qlen (10), and more than a turn.
  const lines = ['first', 'second', 'third'].flatMap((line) => Array.from({ length: 1000 }, () => line));
  for (const line of new Set(lines)) await client.send(line, log, 1000);
  await eventually(() => datagramsOf(b).received === lines.length, { what: 'all through the channel' });
  server.read();
  await server.came(lines.length);
  t.deepEqual(server.texts, lines);
});

testWith('python')('when the flow ends, messages for a receiver that does not read count as dropped', async (t) => {
  const { a, b, log, target } = await setUp(t);
  await UnixgramProgram.open(t, { at: target, isReading: false });
  const client = await UnixgramProgram.open(t);
  t.is(await client.send(Buffer.alloc(20_000), log, 20), '');
  await eventually(
    () => {
      const { received, receiveDropped } = datagramsOf(b);
      return datagramsOf(a).sendDropped + received + receiveDropped === 20;
    },
    { what: 'all through' },
  );
  const before = datagramsOf(b).receiveDropped;
  await a.proxy.removeForward(forwardOf(a).id, { isDraining: false });
  await eventually(() => forwardOf(b).streams === 0, { what: 'the end of the flow' });
  t.true(datagramsOf(b).receiveDropped > before);
});

test('the socket file has the requested mode, and is removed with the forward', async (t) => {
  const folder = temporaryFolder(t);
  const endpoints = [`unixgram:${join(folder, 'x')},mode=0666`, `unixgram:${join(folder, 'y,,y')}`];
  const outgoing = endpoints.map((endpoint, index) => `s${index}:${endpoint}`);
  const a = await startProxy(t, `unix-listen:${join(folder, 'channel')}`, { outgoing });
  t.is(lstatSync(join(folder, 'x')).mode & 0o777, 0o666);
  t.is(lstatSync(join(folder, 'y,y')).mode & 0o777, 0o600);
  const listed = a.proxy.listForwards().map(({ endpoint }) => endpoint);
  t.deepEqual(listed, endpoints);
  const [x] = a.proxy.listForwards();
  await a.proxy.removeForward(x?.id ?? '', { isDraining: false });
  t.false(existsSync(join(folder, 'x')));
  // Another file in its place is not removed.
  unlinkSync(join(folder, 'y,y'));
  writeFileSync(join(folder, 'y,y'), '');
  await a.proxy.stop();
  t.true(existsSync(join(folder, 'y,y')));
});

testWith('python')('a stale socket file is replaced; one in use is not, nor is any other file', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'log');
  const { proxy } = await startProxy(t, `unix-listen:${join(folder, 'channel')}`);
  const add = (place = `x:unixgram:${path}`) => proxy.addForward(parseForwardSpec('outgoing', place));
  const isTaken = (message: RegExp, place?: string) => t.throwsAsync(add(place), { code: 'address-in-use', message });

  const holder = await UnixgramProgram.open(t, { at: path });
  await isTaken(/already in use by process \d+ \(python3[^)]*\)$/);
  await holder.close();
  t.true(existsSync(path));
  const { id } = await add();
  const client = await UnixgramProgram.open(t);
  t.is(await client.send('x', path), '');
  // Of the same type, or of another.
  for (const place of [undefined, `y:unix:${path}`])
    await isTaken(/already in use by forward f\d+, -o x:unixgram:/, place);
  await proxy.removeForward(id, { isDraining: false });
  const server = net.createServer().listen(path);
  t.teardown(() => server.close());
  await isTaken(/already in use by this process$/);
  server.close();
  rmSync(path, { force: true });
  writeFileSync(path, 'precious');
  await isTaken(/exists and is not a socket/);
  const missing = { code: 'address-unavailable', message: /its folder does not exist/ };
  await t.throwsAsync(add(`x:unixgram:${folder}/missing/log`), missing);
});

serialTestWith('python')('nothing stays open when forwards and flows have gone', async (t) => {
  const descriptors = () => readdirSync('/proc/self/fd').length;
  const folder = temporaryFolder(t);
  const server = await UnixgramProgram.open(t, { at: join(folder, 'target') });
  const client = await UnixgramProgram.open(t);
  const { a, b } = await proxyPair(t);
  const once = async () => {
    const count = server.messages.length;
    const forwards = [
      [a, await a.proxy.addForward(parseForwardSpec('outgoing', `x:unixgram:${folder}/log`))],
      [b, await b.proxy.addForward(parseForwardSpec('incoming', `x:unixgram:${folder}/target`))],
    ] as const;
    await client.send('x', join(folder, 'log'));
    await server.came(count + 1);
    for (const [{ proxy }, { id }] of forwards) await proxy.removeForward(id, { isDraining: false });
    await eventually(() => b.proxy.listStreams().length + a.proxy.listStreams().length === 0, { what: 'the end' });
  };
  const before = descriptors();
  for (let turn = 0; turn < 5; turn += 1) await once();
  await eventually(() => descriptors() <= before, { what: 'the number of descriptors before' });
  t.pass();
});
