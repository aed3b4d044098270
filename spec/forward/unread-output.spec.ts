/** A local program whose peer has stopped reading (R-STREAM-9): it may continue for a while, at little cost to this side. */
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { FRAME_TYPE } from '../../lib/codec/header.js';
import { UnreadOutput } from '../../lib/session/local-end.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, TestProxy } from '../helpers/proxies.js';
import { SocketPeer } from '../helpers/socket-peer.js';
import { eventually, ManualClock } from '../helpers/time.js';

const STOPPED = { code: 'cancelled', message: 'reads no more' };

/** A host with the target `serve` and a manual clock, and a guest with one stream to it. */
async function setUp(t: ExecutionContext, serve: (socket: net.Socket) => void, isTcp = true) {
  const folder = temporaryFolder(t);
  const path = join(folder, 'channel.sock');
  const clock = new ManualClock();
  const target = await localServer(t, serve, isTcp ? undefined : { path: join(folder, 'target') });
  const incoming = [isTcp ? `x:${target.port}` : `x:unix:${join(folder, 'target')}`];
  const host = new TestProxy(t, `unix-listen:${path}`, { clock, incoming });
  await host.start();
  const peer = await SocketPeer.established(path);
  t.teardown(() => peer.close());
  peer.sendOpen(1, 'x');
  await peer.seen(/^ACCEPT 1$/);
  return { folder, clock, host, peer };
}

/** Writes endlessly, and counts what the system took. */
function writeForEver(socket: net.Socket): { writtenBytes: number; isClosed: boolean } {
  const piece = Buffer.alloc(65_536, 'x');
  const state = { writtenBytes: 0, isClosed: false };
  const write = (): void => {
    while (
      !socket.destroyed &&
      socket.write(piece, (error) => (state.writtenBytes += (error ?? null) === null ? piece.length : 0))
    );
  };
  socket.on('drain', write).once('close', () => (state.isClosed = true));
  write();
  return state;
}

/** Waits until the program can no longer write, while this process has many turns: later writes wait. */
async function atRest(peer: SocketPeer, writer: () => { readonly writtenBytes: number } | undefined): Promise<void> {
  await eventually(
    async () => {
      const before = writer()?.writtenBytes ?? 0;
      for (let turn = 0; turn < 50; turn += 1) await peer.ping();
      return before > 0 && writer()?.writtenBytes === before;
    },
    { what: 'a program that waits' },
  );
}

const resets = (peer: SocketPeer): string[] => peer.texts().filter((text) => text.startsWith('RESET'));

test.serial('programs whose output is dropped take turns: everything else is served in between', async (t) => {
  const { peer } = await setUp(t, writeForEver);
  const ids = Array.from({ length: 20 }, (_, index) => 2 * index + 1);
  for (const id of ids.slice(1)) peer.sendOpen(id, 'x');
  await peer.seen(/^ACCEPT 39$/);
  const every: { drop: (this: UnreadOutput, bytes: number) => boolean } = UnreadOutput.prototype;
  const { drop } = every;
  const clock: { now: () => number } = performance;
  const { now } = clock;
  t.teardown(() => Object.assign(every, { drop }));
  t.teardown(() => Object.assign(clock, { now }));
  // A turn lasts for one read.
  let nowMs = performance.now();
  clock.now = () => (nowMs += 1);
  const dropping = new Set<UnreadOutput>();
  every.drop = function (bytes) {
    dropping.add(this);
    return drop.call(this, bytes);
  };
  for (const id of ids) peer.send(FRAME_TYPE.STOP, id, STOPPED);
  await eventually(() => dropping.size === ids.length);
  const counts: number[] = [];
  for (let turn = 0; turn < 100; turn += 1) {
    dropping.clear();
    await new Promise(setImmediate);
    counts.push(dropping.size);
  }
  t.true(Math.max(...counts) <= 2, counts.join());
  t.true(counts.some((count) => count > 0));
});

for (const isTcp of [true, false]) {
  test(`a target on ${isTcp ? 'TCP' : 'a unix socket'} that never ends is not read endlessly after STOP, and is reset 10 s later`, async (t) => {
    const writers: ReturnType<typeof writeForEver>[] = [];
    const { clock, peer } = await setUp(t, (socket) => writers.push(writeForEver(socket)), isTcp);
    peer.send(FRAME_TYPE.STOP, 1, STOPPED);
    await peer.seen(/^FIN 1$/);
    await atRest(peer, () => writers[0]);
    clock.advance(9000);
    await peer.ping();
    t.deepEqual(resets(peer), []);
    t.false(writers[0]?.isClosed);
    clock.advance(2000);
    await peer.seen(/^RESET 1 cancelled$/);
    await eventually(() => writers[0]?.isClosed);
  });
}

test('one that writes a little after STOP and keeps reading is not disturbed, however long it takes', async (t) => {
  const received: Buffer[] = [];
  const sockets: net.Socket[] = [];
  const { clock, peer } = await setUp(t, (socket) => {
    sockets.push(socket);
    socket.on('data', (chunk: Buffer) => received.push(chunk));
    socket.once('end', () => socket.end());
  });
  peer.send(FRAME_TYPE.STOP, 1, STOPPED);
  await peer.seen(/^FIN 1$/);
  const [socket] = sockets;
  for (let turn = 0; turn < 20; turn += 1) {
    socket?.write(Buffer.alloc(10_000, 'l'));
    peer.sendData(1, 'more ');
    await eventually(() => Buffer.concat(received).toString() === 'more '.repeat(turn + 1));
    clock.advance(60_000);
  }
  peer.send(FRAME_TYPE.FIN, 1);
  const closed = once(socket as net.Socket, 'close');
  await closed;
  t.is((socket as net.Socket).errored, null);
});

test('one that echoes everything continues as long as the peer sends', async (t) => {
  let received = 0;
  const { clock, peer } = await setUp(t, (socket) => {
    socket.on('data', (chunk: Buffer) => (received += chunk.length));
    socket.pipe(socket);
  });
  peer.send(FRAME_TYPE.STOP, 1, STOPPED);
  await peer.seen(/^FIN 1$/);
  const piece = Buffer.alloc(32_768);
  for (let sent = piece.length; sent <= 4 * 2 ** 20; sent += piece.length) {
    peer.sendData(1, piece);
    await eventually(() => received === sent, { intervalMs: 1 });
    clock.advance(1000);
  }
  peer.send(FRAME_TYPE.FIN, 1);
  await peer.ping();
  t.deepEqual(resets(peer), []);
});

test('an answer sent before the end still arrives if the program keeps writing', async (t) => {
  const received: Buffer[] = [];
  const writers: ReturnType<typeof writeForEver>[] = [];
  const { clock, host, peer } = await setUp(t, (socket) => {
    writers.push(writeForEver(socket));
    socket.on('data', (chunk: Buffer) => received.push(chunk));
  });
  peer.send(FRAME_TYPE.STOP, 1, STOPPED);
  peer.sendData(1, 'the answer');
  peer.send(FRAME_TYPE.FIN, 1);
  await eventually(() => Buffer.concat(received).toString() === 'the answer');
  await peer.seen(/^FIN 1$/);
  await atRest(peer, () => writers[0]);
  // Its stream has ended, and so has its connection, even if the program did not end it.
  t.is(host.proxy.listStreams().length, 0);
  clock.advance(11_000);
  await eventually(() => writers[0]?.isClosed);
});

test('a program that has its answer, and neither writes nor closes, is closed after 10 s', async (t) => {
  const sockets: net.Socket[] = [];
  const { clock, host, peer } = await setUp(t, (socket) => sockets.push(socket.resume()));
  peer.send(FRAME_TYPE.STOP, 1, STOPPED);
  peer.send(FRAME_TYPE.FIN, 1);
  await eventually(() => sockets[0]?.readableEnded);
  await eventually(() => host.proxy.listStreams().length === 0);
  await peer.ping();
  const [socket] = sockets as [net.Socket];
  clock.advance(9999);
  socket.write('x');
  await peer.ping();
  t.false(socket.destroyed);
  clock.advance(1);
  // It learns of that when it writes.
  await eventually(() => !socket.write('x') && socket.destroyed);
});
