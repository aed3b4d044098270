/** How a proxy stops: within a second in every state, with nothing left behind. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { hangingPort } from '../helpers/ports.js';
import { connectedProxies, failureOf, localServer, localSocket, TestProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const LOOPBACK = '127.0.0.1';

/** Stops a proxy; fails where that takes a second. */
async function stopsInTime(t: ExecutionContext, { proxy }: TestProxy): Promise<void> {
  const startedAt = performance.now();
  await proxy.stop();
  const tookMs = performance.now() - startedAt;
  t.true(tookMs < 1000, `${tookMs} ms`);
}

test('a proxy that is stopped while it starts listens nowhere afterwards', async (t) => {
  const folder = temporaryFolder(t);
  const [channel, forward] = [join(folder, 'channel.sock'), join(folder, 'forward.sock')];
  const proxy = new TestProxy(t, `unix-listen:${channel}`, { outgoing: [`echo:${forward}`] });
  const starting = proxy.start();
  await stopsInTime(t, proxy);
  await starting;
  t.false(existsSync(forward), 'the forward');
  t.false(existsSync(channel), 'the channel');
});

test('a listening channel that is stopped while it begins to listen does not listen afterwards', async (t) => {
  const channel = join(temporaryFolder(t), 'channel.sock');
  const proxy = new TestProxy(t, `unix-listen:${channel}`);
  const starting = proxy.start();
  await Promise.all([proxy.proxy.stop(), starting]);
  await t.throwsAsync(once(localSocket(t, { path: channel }), 'connect'), { code: 'ENOENT' });
});

test('it stops in time while a dial hangs', async (t) => {
  const proxy = new TestProxy(t, `tcp-connect:${LOOPBACK}:${await hangingPort(t)}`);
  await proxy.start();
  proxy.proxy.retryNow();
  await stopsInTime(t, proxy);
  t.deepEqual(proxy.events, []);
});

test('it stops in time while local connections wait for a session, and resets them', async (t) => {
  const proxy = new TestProxy(t, `unix-listen:${join(temporaryFolder(t), 'channel.sock')}`, { outgoing: ['echo:0'] });
  await proxy.start();
  const sockets = Array.from({ length: 5 }, () => localSocket(t, { host: LOOPBACK, port: proxy.port('echo') }));
  const failures = sockets.map(failureOf);
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  await stopsInTime(t, proxy);
  for (const failure of failures) t.is((await failure).code, 'ECONNRESET');
});

test('it stops in time while the other end of the channel takes nothing', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const deaf = await localServer(t, (socket) => socket.pause(), { path });
  const proxy = new TestProxy(t, `unix-connect:${path}`);
  const accepted = once(deaf, 'connection');
  await proxy.start();
  await accepted;
  await stopsInTime(t, proxy);
});

test('it stops in time while many streams that nobody reads are open both ways', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const accepted: net.Socket[] = [];
  const deaf = await localServer(t, (socket) => {
    accepted.push(socket.pause());
    socket.write(Buffer.alloc(1_000_000));
  });
  const { a, b } = await connectedProxies(t, path, { outgoing: ['deaf:0'] }, { incoming: [`deaf:${deaf.port}`] });
  const sockets = Array.from({ length: 50 }, () => localSocket(t, { host: LOOPBACK, port: a.port('deaf') }));
  for (const socket of sockets) {
    socket.on('error', () => undefined);
    socket.write(Buffer.alloc(1_000_000));
  }
  await eventually(() => accepted.length === 50);
  await stopsInTime(t, b);
  await stopsInTime(t, a);
});
