import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import type { VproxyError } from '../../lib/errors.js';
import { temporaryFolder } from '../helpers/files.js';
import { connectedProxies, echo, localServer, localSocket, readToEnd, TestProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const LOOPBACK = '127.0.0.1';

/** The number of connections that may wait unestablished. */
const MAX_WAITING = 16;

test('R-CHANNEL-2: a stranger on a listening channel ends nothing, and the seventeenth closes another one', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const server = await localServer(t, echo);
  const { a } = await connectedProxies(t, path, { outgoing: ['echo:0'] }, { incoming: [`echo:${server.port}`] });
  const open = localSocket(t, { host: LOOPBACK, port: a.port('echo') });
  open.write('before');
  await once(open, 'data');

  const strangers: net.Socket[] = [];
  for (let count = 0; count <= MAX_WAITING; count += 1) {
    const stranger = localSocket(t, { path });
    stranger.resume();
    await once(stranger, 'connect');
    strangers.push(stranger);
  }
  const ended = () => strangers.filter((stranger) => stranger.readableEnded);
  await eventually(() => ended().length > 0);
  t.is(ended().length, 1);
  t.false(strangers.at(-1)?.readableEnded, 'the newcomer is let in');
  open.write('after');
  t.is(String((await once(open, 'data'))[0]), 'after');
  t.false(a.events.some(({ event }) => event === 'session-ended'));
});

test('R-CHANNEL-2: of 100 connections that come at once no more than 16 wait, and one line tells of it', async (t) => {
  const proxy = new TestProxy(t, `tcp-listen:${LOOPBACK}:0`);
  await proxy.start();
  const port = Number(/:(\d+)$/.exec((await proxy.event('channel-listening')).message)?.[1]);
  const strangers = Array.from({ length: 100 }, () => localSocket(t, { host: LOOPBACK, port }).resume());
  const open = new Set(strangers);
  for (const stranger of strangers) {
    stranger.on('error', () => undefined);
    stranger.once('end', () => open.delete(stranger)).once('close', () => open.delete(stranger));
  }
  await eventually(() => open.size <= MAX_WAITING);
  t.is(open.size, MAX_WAITING);
  t.is(proxy.events.filter(({ event }) => event === 'channel-crowded').length, 1);
});

test('R-CHANNEL-2: a newcomer that is established displaces the peer', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const server = await localServer(t, echo);
  const { a } = await connectedProxies(t, path, { outgoing: ['echo:0'] }, {});
  const since = a.events.length;
  const newcomer = new TestProxy(t, `unix-connect:${path}`, { name: 'newcomer', incoming: [`echo:${server.port}`] });
  await newcomer.start();
  t.regex((await a.event('session-ended', since)).message, /displaced by a newer connection \(channel-displaced\)/);
  t.regex((await a.event('session-established', since)).message, /newcomer/);
  const socket = localSocket(t, { host: LOOPBACK, port: a.port('echo') });
  socket.end('hello');
  t.is((await readToEnd(socket)).toString(), 'hello');
});

test('a channel whose path is missing is tried again with one line, and works when it appears', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const b = new TestProxy(t, `unix-connect:${path}`);
  await b.start();
  await b.event('channel-waiting');
  const a = new TestProxy(t, `unix-listen:${path}`);
  await a.start();
  b.proxy.retryNow();
  await b.event('session-established');
  t.is(b.events.filter(({ event }) => event === 'channel-waiting').length, 1);
});

test('a channel that is cut again and again comes back each time', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'real.sock');
  const a = new TestProxy(t, `unix-listen:${path}`);
  await a.start();
  const relays = new Set<net.Socket>();
  const relay = net.createServer((near) => {
    const far = net.connect(path);
    for (const socket of [near, far]) {
      relays.add(socket);
      socket.on('error', () => undefined);
      socket.once('close', () => relays.delete(socket));
    }
    near.pipe(far).pipe(near);
  });
  relay.listen(join(folder, 'relay.sock'));
  t.teardown(() => {
    for (const socket of relays) socket.destroy();
    relay.close();
  });
  const b = new TestProxy(t, `unix-connect:${join(folder, 'relay.sock')}`);
  await b.start();
  const established = (): number => b.events.filter(({ event }) => event === 'session-established').length;
  for (let round = 1; round <= 3; round += 1) {
    await eventually(() => established() === round);
    for (const socket of relays) socket.destroy();
    await eventually(() => b.events.filter(({ event }) => event === 'session-ended').length === round);
    b.proxy.retryNow();
  }
  await eventually(() => established() === 4);
  t.pass();
});

test('listening where other machines can connect is refused without --insecure', (t) => {
  t.throws(() => new TestProxy(t, 'tcp-listen:0.0.0.0:0'), { code: 'bad-argument', message: /--insecure/ });
  t.notThrows(() => new TestProxy(t, 'tcp-listen:0.0.0.0:0', { insecure: true }));
  t.notThrows(() => new TestProxy(t, 'tcp-listen:[::1]:0'));
});

test('a channel that can never work is reported as fatal', async (t) => {
  const proxy = new TestProxy(t, 'virtserial-open:/etc/hostname');
  const fatal = new Promise<VproxyError>((resolve) => proxy.proxy.once('fatal', resolve));
  await proxy.start();
  t.is((await fatal).code, 'channel-unusable');
});

test('the session works over TCP, and two sides can offer each other services at once', async (t) => {
  const server = await localServer(t, echo);
  const a = new TestProxy(t, 'tcp-listen:127.0.0.1:0', { outgoing: ['b-echo:0'], incoming: [`a-echo:${server.port}`] });
  await a.start();
  const listening = await a.event('channel-listening');
  const port = Number(/:(\d+)$/.exec(listening.message)?.[1]);
  const b = new TestProxy(t, `tcp-connect:127.0.0.1:${port}`, {
    outgoing: ['a-echo:0'],
    incoming: [`b-echo:${server.port}`],
  });
  await b.start();
  for (const from of [a, b]) {
    const socket = localSocket(t, { host: LOOPBACK, port: from.port(from === a ? 'b-echo' : 'a-echo') });
    socket.end('both ways');
    t.is((await readToEnd(socket)).toString(), 'both ways');
  }
});

test('a proxy that stops tells its peer, and is gone within a second although a program does not read', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const deaf = await localServer(t, (socket) => socket.pause());
  const { a, b } = await connectedProxies(t, path, { outgoing: ['deaf:0'] }, { incoming: [`deaf:${deaf.port}`] });
  const socket = localSocket(t, { host: LOOPBACK, port: a.port('deaf') });
  socket.on('error', () => undefined);
  socket.write(Buffer.alloc(20_000_000));
  await once(socket, 'connect');
  const startedAt = performance.now();
  await a.proxy.stop();
  t.true(performance.now() - startedAt < 1000);
  t.regex((await b.event('session-ended')).message, /\(shutdown\)|\(channel-closed\)/);
});
