import { once } from 'node:events';
import net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import type { VproxyError } from '../../lib/errors.js';
import { temporaryFolder } from '../helpers/files.js';
import { connectedProxies, echo, localServer, localSocket, readToEnd, TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

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
  t.regex(
    (await a.event('session-ended', since)).message,
    /: a newer connection took the channel: newcomer, vproxy test \(channel-displaced\)$/,
  );
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

test('who watches a proxy hears of each wait for the next attempt, as the state was another one meanwhile', async (t) => {
  const proxy = new TestProxy(t, `unix-connect:${join(temporaryFolder(t), 'missing.sock')}`);
  const states: string[] = [];
  proxy.proxy.on('changed', () => states.push(proxy.proxy.channel('default').state));
  await proxy.start();
  await eventually(() => states.length >= 3, { what: 'three waits' });
  t.deepEqual(new Set(states), new Set(['backing-off']));
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

/** Longer than an opening may be without an answer before that is told. */
const SILENCE_MS = 5000;

/** The other end of a channel, which answers nothing unless it is to relay to another socket. */
class FarEnd {
  /** The number of connections over which something came. */
  openings = 0;
  readonly #sockets = new Set<net.Socket>();
  #relaysTo: string | null = null;

  /** Takes a connection; for `localServer`. */
  readonly accept = (near: net.Socket): void => {
    this.#keep(near);
    near.once('data', () => {
      this.openings += 1;
    });
    if (this.#relaysTo === null) {
      // As QEMU does when its client leaves.
      near.resume().on('end', () => near.end());
      return;
    }
    const far = net.connect(this.#relaysTo).on('error', () => near.destroy());
    this.#keep(far);
    near.pipe(far);
    // The channel stays open when the peer goes.
    far.pipe(near, { end: false });
  };

  relayTo(path: string | null): void {
    this.#relaysTo = path;
  }

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #keep(socket: net.Socket): void {
    this.#sockets.add(socket);
    socket.on('error', () => undefined).once('close', () => this.#sockets.delete(socket));
  }
}

const countOf = ({ events }: TestProxy, name: string): number => events.filter(({ event }) => event === name).length;

test('a unix socket on which nobody answers is dialled again, once until there was a session', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'channel.sock');
  const far = new FarEnd();
  await localServer(t, far.accept, { path });
  t.teardown(() => far.cut());
  const peerPath = join(folder, 'peer.sock');
  const peer = new TestProxy(t, `unix-listen:${peerPath}`);
  await peer.start();
  const clock = new ManualClock();
  const side = new TestProxy(t, `unix-connect:${path}`, { clock });
  await side.start();
  await eventually(() => far.openings === 1);
  clock.advance(SILENCE_MS - 1);
  t.is(countOf(side, 'channel-redialled'), 0);
  clock.advance(1);
  t.regex((await side.event('channel-redialled')).message, /^unix-connect:\/\S+ is closed and opened again: /);
  await eventually(() => far.openings === 2);
  clock.advance(10 * SILENCE_MS);
  t.is(side.proxy.listChannels()[0]?.state, 'waiting');
  t.deepEqual(
    side.events.map(({ event }) => event),
    ['channel-waiting', 'channel-redialled'],
    'one line says that nobody answers',
  );
  far.cut();
  await eventually(() => countOf(side, 'channel-waiting') === 2);
  side.proxy.retryNow();
  await eventually(() => far.openings === 3);
  clock.advance(10 * SILENCE_MS);
  t.is(countOf(side, 'channel-redialled'), 1, 'nor is the next link closed');

  far.relayTo(peerPath);
  far.cut();
  await eventually(() => countOf(side, 'channel-waiting') === 4);
  side.proxy.retryNow();
  await side.event('session-established');
  far.relayTo(null);
  far.cut();
  await side.event('session-ended');
  side.proxy.retryNow();
  await eventually(() => far.openings === 5);
  clock.advance(SILENCE_MS);
  await eventually(() => far.openings === 6);
  t.is(countOf(side, 'channel-redialled'), 2);
});

test('where a peer has answered before, silence closes no link', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'channel.sock');
  const far = new FarEnd();
  await localServer(t, far.accept, { path });
  t.teardown(() => far.cut());
  const peerPath = join(folder, 'peer.sock');
  far.relayTo(peerPath);
  const peer = new TestProxy(t, `unix-listen:${peerPath}`);
  await peer.start();
  const clock = new ManualClock();
  const side = new TestProxy(t, `unix-connect:${path}`, { clock });
  await side.start();
  await Promise.all([side.event('session-established'), peer.event('session-established')]);
  await peer.proxy.stop();
  await side.event('session-ended');
  clock.advance(4 * SILENCE_MS);
  t.regex((await side.event('channel-waiting')).message, /no answer on unix-connect:/);
  t.is(countOf(side, 'channel-redialled'), 0);
  t.is(far.openings, 1);
});

test('silence closes no link over TCP', async (t) => {
  const far = new FarEnd();
  const { port } = await localServer(t, far.accept);
  t.teardown(() => far.cut());
  const clock = new ManualClock();
  const side = new TestProxy(t, `tcp-connect:${LOOPBACK}:${port}`, { clock });
  await side.start();
  await eventually(() => far.openings === 1);
  clock.advance(4 * SILENCE_MS);
  t.regex((await side.event('channel-waiting')).message, /no answer on tcp-connect:/);
  t.is(countOf(side, 'channel-redialled'), 0);
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
