/** Node's sockets and their internals: ends and resets, unwritten bytes, turns, stale files. */
import { once } from 'node:events';
import { lstatSync, renameSync, unlinkSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { UdpSocket } from '../../../lib/system/datagrams/udp.js';
import { listen } from '../../../lib/system/sockets/listening.js';
import { hiddenReset, isHungUp, unwrittenBytesOf } from '../../../lib/system/sockets/node-sockets.js';
import { ReadTurn } from '../../../lib/system/sockets/read-turn.js';
import type { HostPort } from '../../../lib/util/addresses/host-port.js';
import { temporaryFolder, untilYounger } from '../../helpers/files.js';
import { localServer, localSocket } from '../../helpers/proxies.js';
import { tcpPair, unixPair } from '../../helpers/unix-pair.js';

test('a program that names no host listens nowhere, rather than on every address', async (t) => {
  for (const host of ['', undefined, null, {}]) {
    const address = { host, port: 0 } as HostPort;
    await t.throwsAsync(listen(net.createServer(), address), { code: 'bad-argument' });
    const events = { onMessage: () => undefined, onError: () => undefined };
    await t.throwsAsync(UdpSocket.bind(address, events), { code: 'bad-argument' });
  }
});

// ---- how a socket ends --------------------------------------------------------------------------------------------

test('connections wait while the loop is busy, more of them than by default', async (t) => {
  const server = net.createServer((socket) => socket.resume());
  t.teardown(() => server.close());
  const path = join(temporaryFolder(t), 'socket');
  await listen(server, { path });
  // In one turn: nothing is accepted between them.
  const sockets = Array.from({ length: 1000 }, () => net.connect({ path }));
  await t.notThrowsAsync(Promise.all(sockets.map((socket) => once(socket, 'connect'))));
  for (const socket of sockets) socket.destroy();
});

test('a clean end hides no error, on TCP and on a unix socket', async (t) => {
  const path = join(temporaryFolder(t), 'x.sock');
  await localServer(t, (socket) => socket.end('all'), { path });
  const { near, far } = await tcpPair(t);
  far.end('all');
  for (const socket of [near, localSocket(t, { path })]) {
    socket.resume();
    await once(socket, 'end');
    t.is(hiddenReset(socket), null);
  }
});

test('a reset right after the last bytes is an error at once, or is found behind the end', async (t) => {
  for (let round = 0; round < 20; round += 1) {
    const { near, far } = await tcpPair(t);
    near.pause();
    far.write(Buffer.alloc(10_000));
    await once(near, 'readable');
    far.resetAndDestroy();
    await once(far, 'close');
    const failure = new Promise<Error | null>((resolve) => {
      near.once('error', resolve);
      near.once('end', () => resolve(hiddenReset(near)));
    });
    near.resume();
    t.regex(String(await failure), /ECONNRESET/);
  }
});

for (const isClosed of [false, true]) {
  test(`a unix socket that was ${isClosed ? 'closed' : 'shut down'} at the other end is ${isClosed ? '' : 'not '}hung up`, async (t) => {
    const path = join(temporaryFolder(t), 'x.sock');
    await localServer(t, (socket) => (isClosed ? socket.destroy() : socket.end()), { path });
    const socket = localSocket(t, { path });
    socket.on('error', () => undefined).resume();
    await once(socket, 'end');
    t.is(isHungUp(socket), isClosed);
  });
}

// ---- unwritten bytes ----------------------------------------------------------------------------------------------

/** How much `far` reads until EOF when `near`, of which `unwritten` bytes are not written yet, is closed. */
async function readWhenClosed(near: net.Socket, far: net.Socket): Promise<number> {
  let byteCount = 0;
  far.on('data', (chunk: Buffer) => (byteCount += chunk.length));
  const ended = once(far, 'end');
  near.destroy();
  far.resume();
  await ended;
  return byteCount;
}

for (const [name, open] of Object.entries({ unix: unixPair, tcp: tcpPair })) {
  test(`${name}: all but the unwritten bytes arrive, and no more, however they were written`, async (t) => {
    const { near, far } = await open(t);
    near.on('error', () => undefined);
    let written = 0;
    const write = (bytes: number): void => {
      near.write(Buffer.alloc(bytes));
      written += bytes;
    };
    write(1000);
    t.is(unwrittenBytesOf(near), 0);
    near.cork();
    write(500);
    write(200);
    t.is(unwrittenBytesOf(near), 700);
    near.uncork();
    t.is(unwrittenBytesOf(near), 0);
    // More than the system takes, then a gathered write, and one that is still held back.
    write(20_000_000);
    near.cork();
    write(300_000);
    write(70_000);
    near.uncork();
    near.cork();
    write(5);
    const unwritten = unwrittenBytesOf(near) ?? 0;
    t.true(unwritten > 370_005);
    t.true(unwritten < 20_370_005);
    t.is(await readWhenClosed(near, far), written - unwritten);
    t.is(unwrittenBytesOf(near), null);
  });
}

test('nothing of a connecting socket is written yet', async (t) => {
  const server = net.createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
  t.teardown(() => server.close());
  await once(server, 'listening');
  const socket = net.connect((server.address() as net.AddressInfo).port, '127.0.0.1');
  socket.write(Buffer.alloc(100));
  socket.write(Buffer.alloc(11));
  t.is(unwrittenBytesOf(socket), 111);
  await once(socket, 'connect');
  t.is(unwrittenBytesOf(socket), 0);
  socket.end();
  await once(socket, 'close');
});

// ---- how much is read in a turn -----------------------------------------------------------------------------------

const READ = 131_072;
const TURN = 524_288;

test('four full reads of 128 KiB are a turn, and the next one begins by itself', async (t) => {
  let turns = 0;
  const turn = new ReadTurn(() => (turns += 1));
  for (const expected of [1, 2]) {
    for (let reads = 1; reads <= 3; reads += 1) t.false(turn.isOver(READ, true, false), `${reads}`);
    t.true(turn.isOver(READ, true, false));
    t.is(turns, expected - 1);
    await nextTurn();
    t.is(turns, expected);
  }
});

test('a read that was not full ends the reading by itself, and the count starts again', async (t) => {
  let turns = 0;
  const turn = new ReadTurn(() => (turns += 1));
  t.false(turn.isOver(TURN - 1, true, false));
  t.false(turn.isOver(TURN, false, false));
  t.false(turn.isOver(TURN - 1, true, false));
  await nextTurn();
  t.is(turns, 0);
  t.true(turn.isOver(1, true, false));
});

test('one full read is a turn if another waits', async (t) => {
  let turns = 0;
  const turn = new ReadTurn(() => (turns += 1));
  t.false(turn.isOver(100, false, true));
  t.true(turn.isOver(100, true, true));
  await nextTurn();
  t.is(turns, 1);
});

// ---- stale socket files; one test after the other, so that a new file may get the inode of an old one --------------

/** A socket file without a listener, left by a server that was bound under another name. */
async function leaveSocket(t: ExecutionContext, path: string): Promise<void> {
  const server = net.createServer().listen(`${path}.bound`);
  await once(server, 'listening');
  renameSync(`${path}.bound`, path);
  const closed = once(server, 'close');
  server.close();
  await closed;
  t.true(lstatSync(path).isSocket());
  await untilYounger(path);
}

function serverOf(t: ExecutionContext): net.Server {
  const server = net.createServer((socket) => socket.on('error', () => undefined).end());
  t.teardown(() => server.close());
  return server;
}

test.serial('a stale socket file is replaced', async (t) => {
  const path = join(temporaryFolder(t), 'x');
  await leaveSocket(t, path);
  await listen(serverOf(t), { path });
  await once(localSocket(t, { path }), 'connect');
});

for (const how of ['renamed to it', 'made there'])
  test.serial(`a socket that replaces a stale one while that is probed stays: ${how}`, async (t) => {
    const path = join(temporaryFolder(t), 'x');
    await leaveSocket(t, path);
    const [other, server] = [serverOf(t), serverOf(t)];
    if (how === 'renamed to it') await once(other.listen(`${path}.new`), 'listening');
    const listening = listen(server, { path });
    // The stale socket has been probed by now; the result is not read yet.
    if (how === 'renamed to it') renameSync(`${path}.new`, path);
    else {
      unlinkSync(path);
      other.listen(path);
    }
    const { ino } = lstatSync(path);
    await t.throwsAsync(listening, { code: 'address-in-use' });
    t.is(lstatSync(path).ino, ino);
    await once(localSocket(t, { path }), 'connect');
  });
