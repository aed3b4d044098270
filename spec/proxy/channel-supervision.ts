/** Channels that listen, dial, are lost and given up; and stopping a proxy in every state. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { hangingPort } from '../helpers/ports.js';
import {
  answerTo,
  ask,
  echo,
  failureOf,
  localServer,
  localSocket,
  openEcho,
  proxyPair,
  startProxy,
  TestProxy,
} from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

const channelPath = (t: ExecutionContext): string => join(temporaryFolder(t), 'channel.sock');

/** Limit on connections that have not completed a handshake. */
const MAX_WAITING = 16;

/** Silent connections to a channel: as many as are allowed, and one more. */
function strangersTo(t: ExecutionContext, path: string) {
  const open = new Set<net.Socket>();
  const add = async (): Promise<net.Socket> => {
    const stranger = localSocket(t, path);
    open.add(stranger);
    for (const event of ['end', 'close']) stranger.once(event, () => open.delete(stranger));
    await once(stranger.resume(), 'connect');
    return stranger;
  };
  return { open, add };
}

test('R-CHANNEL-2: a stranger on a listening channel ends no session, and the seventeenth closes another stranger', async (t) => {
  const { port } = await localServer(t, echo);
  const { a, path } = await proxyPair(t, { targets: `echo:${port}` });
  const socket = await openEcho(t, a.port('echo'));
  const { open, add } = strangersTo(t, path);
  for (let count = 0; count < MAX_WAITING; count += 1) await add();
  const last = await add();
  await eventually(() => open.size <= MAX_WAITING);
  t.deepEqual([open.size, open.has(last)], [MAX_WAITING, true], 'the newcomer is let in');
  t.is(await answerTo(socket, 'after'), 'after');
  t.is(a.count('session-ended'), 0);

  // A newcomer with a session displaces the peer.
  const failure = failureOf(socket);
  const since = a.events.length;
  await startProxy(t, `unix-connect:${path}`, { name: 'newcomer', incoming: [`echo:${port}`] });
  const { message } = await a.event('session-ended', since);
  t.regex(
    message,
    /: a newer connection took the channel: newcomer, vproxy test; to keep others out, listen with the option exclusive, or give both sides a --key \(channel-displaced\)$/,
  );
  t.regex((await a.event('session-established', since)).message, /newcomer/);
  t.is((await failure).code, 'ECONNRESET');
  t.is(await ask(t, a.port('echo')), 'hello');
});

// Serial: one connection is accepted per turn of the event loop, and other tests make turns long.
test.serial('R-CHANNEL-2: of 100 connections at once at most 16 are pending, and one line reports it', async (t) => {
  const path = channelPath(t);
  const proxy = await startProxy(t, `unix-listen:${path}`);
  const { open, add } = strangersTo(t, path);
  await Promise.all(Array.from({ length: 100 }, add));
  await eventually(() => open.size <= MAX_WAITING, { timeoutMs: 60_000 });
  t.deepEqual([open.size, proxy.count('channel-crowded')], [MAX_WAITING, 1]);
});

test('a channel with a missing path is retried with a single log line, and watchers see each wait', async (t) => {
  const path = channelPath(t);
  const clock = new ManualClock();
  const b = new TestProxy(t, `unix-connect:${path}`, { clock });
  const states: string[] = [];
  b.proxy.on('changed', () => states.push(b.proxy.channel('default').state));
  await b.start();
  await eventually(() => states.length === 1);
  const { nextTryMs } = b.proxy.channel('default');
  t.true(nextTryMs !== null && nextTryMs > 7 && nextTryMs < 13, `${nextTryMs}`);
  await eventually(() => (clock.advance(1000), states.length >= 3), { what: 'three waits' });
  t.deepEqual(new Set(states), new Set(['backing-off']));
  await startProxy(t, `unix-listen:${path}`);
  await eventually(() => {
    b.proxy.retryNow();
    return b.count('session-established') === 1;
  });
  t.is(b.count('channel-waiting'), 1);
});

/** Longer than the time after which an unanswered opening is reported. */
const SILENCE_MS = 5000;

/** The other end of a channel, which is silent unless it relays to another socket. */
class FarEnd {
  /** The number of connections that received data. */
  openings = 0;
  relaysTo: string | null = null;
  readonly #sockets = new Set<net.Socket>();

  readonly accept = (near: net.Socket): void => {
    this.#keep(near).once('data', () => (this.openings += 1));
    if (this.relaysTo === null) {
      // As QEMU does when its client disconnects.
      near.resume().on('end', () => near.end());
      return;
    }
    const far = this.#keep(net.connect(this.relaysTo));
    far.on('error', () => near.destroy());
    near.pipe(far);
    // The channel stays open when the peer leaves.
    far.pipe(near, { end: false });
  };

  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #keep(socket: net.Socket): net.Socket {
    this.#sockets.add(socket);
    return socket.on('error', () => undefined).once('close', () => this.#sockets.delete(socket));
  }
}

/** A side that dials a far end, which may relay to a peer at `peerPath`. */
async function besideFarEnd(t: ExecutionContext, { isTcp = false, hasPeer = false } = {}) {
  const folder = temporaryFolder(t);
  const [path, peerPath] = [join(folder, 'channel.sock'), join(folder, 'peer.sock')];
  const far = new FarEnd();
  const { port } = await localServer(t, far.accept, isTcp ? undefined : { path });
  t.teardown(() => far.cut());
  if (hasPeer) far.relaysTo = peerPath;
  const peer = await startProxy(t, `unix-listen:${peerPath}`);
  const clock = new ManualClock();
  const side = await startProxy(t, isTcp ? `tcp-connect:127.0.0.1:${port}` : `unix-connect:${path}`, { clock });
  return { far, peer, peerPath, clock, side };
}

test('an unresponsive unix socket is redialled, once until there was a session', async (t) => {
  const { far, peerPath, clock, side } = await besideFarEnd(t);
  await eventually(() => far.openings === 1);
  clock.advance(SILENCE_MS - 1);
  t.is(side.count('channel-redialled'), 0);
  clock.advance(1);
  t.regex((await side.event('channel-redialled')).message, /^reopening unix-connect:\/\S+: /);
  await eventually(() => far.openings === 2);
  clock.advance(10 * SILENCE_MS);
  t.is(side.proxy.listChannels()[0]?.state, 'waiting');
  const told = side.events.map(({ event }) => event);
  t.deepEqual(told, ['channel-waiting', 'channel-redialled'], 'one line reports the missing answer');
  far.cut();
  await eventually(() => side.count('channel-waiting') === 2);
  side.proxy.retryNow();
  await eventually(() => far.openings === 3);
  clock.advance(10 * SILENCE_MS);
  t.is(side.count('channel-redialled'), 1, 'nor is the next link closed');

  far.relaysTo = peerPath;
  far.cut();
  await eventually(() => side.count('channel-waiting') === 4);
  side.proxy.retryNow();
  await side.event('session-established');
  far.relaysTo = null;
  far.cut();
  await side.event('session-ended');
  side.proxy.retryNow();
  await eventually(() => far.openings === 5);
  clock.advance(SILENCE_MS);
  await eventually(() => far.openings === 6);
  t.is(side.count('channel-redialled'), 2);
});

for (const isTcp of [false, true]) {
  test(`silence does not close a link ${isTcp ? 'over TCP' : 'if a peer has answered before'}`, async (t) => {
    const { far, peer, clock, side } = await besideFarEnd(t, { isTcp, hasPeer: !isTcp });
    if (!isTcp) {
      await Promise.all([side, peer].map((one) => one.event('session-established')));
      await peer.proxy.stop();
      await side.event('session-ended');
    }
    await eventually(() => far.openings === 1);
    clock.advance(4 * SILENCE_MS);
    t.regex((await side.event('channel-waiting')).message, /no answer on (?:unix|tcp)-connect:/);
    t.deepEqual([side.count('channel-redialled'), far.openings], [0, 1]);
  });
}

// Stopping.

async function stopsInTime({ proxy }: TestProxy, clock: ManualClock): Promise<void> {
  const endMs = clock.now() + 1000;
  let isOver = false;
  const stopped = proxy.stop().then(() => (isOver = true));
  await eventually(() => isOver || (clock.now() < endMs && clock.advance(100), false), { what: 'the end in a second' });
  await stopped;
}

test('a proxy stopped during its start listens nowhere afterwards', async (t) => {
  const folder = temporaryFolder(t);
  const [channel, forward] = [join(folder, 'channel.sock'), join(folder, 'forward.sock')];
  const { proxy } = new TestProxy(t, `unix-listen:${channel}`, { outgoing: [`echo:${forward}`] });
  const starting = proxy.start();
  await Promise.all([proxy.stop(), starting]);
  t.deepEqual([existsSync(forward), existsSync(channel)], [false, false]);
});

test('it stops in time while a dial hangs, or the other end of the channel is stuck', async (t) => {
  const path = channelPath(t);
  const deaf = await localServer(t, (socket) => socket.pause(), { path });
  for (const address of [`tcp-connect:127.0.0.1:${await hangingPort(t)}`, `unix-connect:${path}`]) {
    const accepted = address.startsWith('unix') ? once(deaf, 'connection') : null;
    const clock = new ManualClock();
    const side = await startProxy(t, address, { clock });
    side.proxy.retryNow();
    await accepted;
    await stopsInTime(side, clock);
    t.deepEqual(side.events, [], address);
  }
});

test('it stops in time while local connections wait for a session, and resets them', async (t) => {
  const clock = new ManualClock();
  const side = await startProxy(t, `unix-listen:${channelPath(t)}`, { outgoing: ['echo:0'], clock });
  const sockets = Array.from({ length: 5 }, () => localSocket(t, side.port('echo')));
  const failures = sockets.map(failureOf);
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  await stopsInTime(side, clock);
  for (const failure of failures) t.is((await failure).code, 'ECONNRESET');
});

test('it stops in time with many unread streams both ways and unresponsive targets, and notifies its peer', async (t) => {
  let accepted = 0;
  const deaf = await localServer(t, (socket) => {
    accepted += 1;
    socket.pause().write(Buffer.alloc(1_000_000));
  });
  const clocks = [new ManualClock(), new ManualClock()] as const;
  const targets = [`deaf:${deaf.port}`, `hangs:127.0.0.1:${await hangingPort(t)}`];
  const { a, b } = await proxyPair(t, { targets, a: { clock: clocks[0] }, b: { clock: clocks[1] } });
  for (let count = 0; count < 55; count += 1)
    localSocket(t, a.port(count < 50 ? 'deaf' : 'hangs'))
      .on('error', () => undefined)
      .write(Buffer.alloc(1_000_000));
  await eventually(() => accepted === 50 && b.proxy.listStreams().length === 55);
  await stopsInTime(b, clocks[1]);
  t.regex((await a.event('session-ended')).message, /\(shutdown\)|\(channel-closed\)/);
  await stopsInTime(a, clocks[0]);
});
