import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import fs from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { copyIntoBuffers, type OnRead, readBuffered, resetSocket } from '../../../lib/system/sockets/node-sockets.js';
import { deferred } from '../../../lib/util/concurrency.js';

type Read = typeof readBuffered;

/** A server whose one accepted socket is read through `read` into an `onread`, and a client connected to it. */
async function openPair(t: ExecutionContext, read: Read, onread: OnRead, where: 'tcp' | 'unix' = 'tcp') {
  const server = net.createServer({ allowHalfOpen: true, pauseOnConnect: true });
  const folder = await fs.mkdtemp(path.join(os.tmpdir(), 'buffered-'));
  if (where === 'tcp') server.listen(0, '127.0.0.1');
  else server.listen(path.join(folder, 's'));
  await once(server, 'listening');
  const accepted = deferred<net.Socket>();
  server.on('connection', (socket) => accepted.resolve(read(socket, onread)));
  const address = server.address();
  const dialled =
    typeof address === 'string'
      ? net.connect({ path: address, allowHalfOpen: true })
      : net.connect({ port: address?.port ?? 0, host: '127.0.0.1', allowHalfOpen: true });
  await once(dialled, 'connect');
  const socket = await accepted.promise;
  t.teardown(async () => {
    dialled.destroy();
    socket.destroy();
    server.close();
    await fs.rm(folder, { recursive: true });
  });
  return { server, dialled, socket };
}

/** An `onread` over one buffer of `size` bytes that hands every piece, copied, to `take`. */
function readInto(size: number, take: (bytes: Buffer) => boolean): OnRead {
  const slab = Buffer.alloc(size);
  return { buffer: () => slab, callback: (count) => take(Buffer.from(slab.subarray(0, count))) };
}

/** Lets the event loop look at its sockets several times. */
async function turnLoop() {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

const connectionCount = (server: net.Server) =>
  new Promise<number>((resolve, reject) =>
    server.getConnections((error, count) => {
      if (error === null) resolve(count);
      else reject(error);
    }),
  );

test('this version of Node has the fast path: the accepted handle is read without a copy', async (t) => {
  const offered: Uint8Array[] = [];
  const filled: Uint8Array[] = [];
  const arrived = deferred();
  const onread: OnRead = {
    buffer() {
      offered.push(Buffer.alloc(16));
      return offered.at(-1) as Uint8Array;
    },
    callback(count, buffer) {
      filled.push(buffer.subarray(0, count));
      arrived.resolve();
      return true;
    },
  };
  const { dialled } = await openPair(t, readBuffered, onread);
  dialled.write('hello');
  await arrived.promise;
  t.is(filled[0]?.buffer, offered[0]?.buffer, 'the first buffer that was offered holds the bytes');
  t.is(Buffer.from(filled[0] ?? []).toString(), 'hello');
  t.is(offered.length, 2, 'the next buffer is asked for after the call');
});

const echoes = test.macro({
  title: (name = '') => `${name}: 5 MB come back unchanged, and both ends of file come`,
  async exec(t, read: Read, where: 'tcp' | 'unix') {
    const { dialled, socket } = await openPair(
      t,
      read,
      readInto(64 * 1024, (bytes) => {
        socket.write(bytes);
        return true;
      }),
      where,
    );
    const sent = randomBytes(5_000_003);
    const hash = createHash('sha256');
    dialled.on('data', (bytes: Buffer) => hash.update(bytes));
    const ended = once(dialled, 'end');
    socket.on('end', () => socket.end());
    dialled.end(sent);
    await ended;
    t.is(hash.digest('hex'), createHash('sha256').update(sent).digest('hex'));
  },
});

const pauses = test.macro({
  title: (name = '') => `${name}: a callback that returns false gets nothing until resume()`,
  async exec(t, read: Read) {
    const got: Buffer[] = [];
    const first = deferred();
    const last = deferred();
    let paused = true;
    const { dialled, socket } = await openPair(
      t,
      read,
      readInto(10, (bytes) => {
        got.push(bytes);
        first.resolve();
        if (Buffer.concat(got).length === 26) last.resolve();
        return !paused;
      }),
    );
    dialled.write('abcdefghijklmnopqrstuvwxyz');
    await first.promise;
    await turnLoop();
    t.is(got.length, 1);
    t.is(got[0]?.toString(), 'abcdefghij');
    paused = false;
    socket.resume();
    await last.promise;
    t.is(Buffer.concat(got).toString(), 'abcdefghijklmnopqrstuvwxyz');
  },
});

const beginsLater = test.macro({
  title: (name = '') => `${name}: paused in the same turn it reads nothing until resume()`,
  async exec(t, read: Read) {
    const got: string[] = [];
    const arrived = deferred();
    const { dialled, socket } = await openPair(
      t,
      (given, onread) => read(given, onread).pause(),
      readInto(100, (bytes) => {
        got.push(bytes.toString());
        arrived.resolve();
        return true;
      }),
    );
    dialled.write('early');
    await turnLoop();
    t.deepEqual(got, []);
    socket.resume();
    await arrived.promise;
    t.deepEqual(got, ['early']);
  },
});

const halfCloses = test.macro({
  title: (name = '') => `${name}: after the end of file the other direction still works`,
  async exec(t, read: Read) {
    const { dialled, socket } = await openPair(
      t,
      read,
      readInto(100, () => true),
    );
    const ended = once(socket, 'end');
    dialled.end('request');
    await ended;
    t.true(socket.writable);
    const answer = once(dialled, 'data');
    const closed = once(socket, 'close');
    socket.end('answer');
    t.is(String((await answer)[0]), 'answer');
    await closed;
  },
});

const resets = test.macro({
  title: (name = '') => `${name}: a reset reaches the other end, either way`,
  async exec(t, read: Read) {
    const outgoing = await openPair(
      t,
      read,
      readInto(100, () => true),
    );
    const seen = once(outgoing.dialled, 'error') as Promise<[NodeJS.ErrnoException]>;
    outgoing.dialled.resume();
    outgoing.socket.resetAndDestroy();
    t.is((await seen)[0].code, 'ECONNRESET');

    const incoming = await openPair(
      t,
      read,
      readInto(100, () => true),
    );
    const heard = once(incoming.socket, 'error') as Promise<[NodeJS.ErrnoException]>;
    incoming.dialled.resetAndDestroy();
    t.is((await heard)[0].code, 'ECONNRESET');
  },
});

const counts = test.macro({
  title: (name = '') => `${name}: the server counts its sockets, and closes when the last is gone`,
  async exec(t, read: Read) {
    const { server, dialled, socket } = await openPair(
      t,
      read,
      readInto(100, () => true),
    );
    t.is(await connectionCount(server), 1);
    const closed = once(server, 'close');
    server.close();
    t.is(await connectionCount(server), 1, 'a server that closes still waits for its socket');
    socket.on('end', () => socket.end());
    dialled.end();
    await closed;
    t.is(await connectionCount(server), 0);
  },
});

for (const [name, read] of [
  ['fast path', readBuffered],
  ['fallback', copyIntoBuffers],
] as const) {
  test(`${name} on TCP`, echoes, read, 'tcp');
  test(`${name} on a unix socket`, echoes, read, 'unix');
  test(name, pauses, read);
  test(name, beginsLater, read);
  test(name, halfCloses, read);
  test(name, resets, read);
  test(name, counts, read);
}

test('what a socket holds already comes first, and then it is read without a copy', async (t) => {
  const offered: Uint8Array[] = [];
  const filled: Buffer[] = [];
  const arrived = deferred();
  const { dialled } = await openPair(
    t,
    (socket, onread) => {
      socket.unshift(Buffer.from('what it holds, '));
      return readBuffered(socket, onread);
    },
    {
      buffer() {
        offered.push(Buffer.alloc(10));
        return offered.at(-1) as Uint8Array;
      },
      callback(count, buffer) {
        filled.push(Buffer.from(buffer.buffer, buffer.byteOffset, count));
        if (filled.length === 3) arrived.resolve();
        return true;
      },
    },
  );
  dialled.write('and more');
  await arrived.promise;
  t.is(Buffer.concat(filled).toString(), 'what it holds, and more');
  t.deepEqual(
    filled.map(({ buffer }) => buffer),
    offered.slice(0, 3).map(({ buffer }) => buffer),
  );
});

test('a destroyed socket is no longer counted', async (t) => {
  const { server, socket } = await openPair(
    t,
    readBuffered,
    readInto(100, () => true),
  );
  socket.destroy();
  t.is(await connectionCount(server), 0);
});

test('resetSocket closes a socket whose end was just said, and frees its descriptor', async (t) => {
  const { server, dialled, socket } = await openPair(
    t,
    readBuffered,
    readInto(100, () => true),
  );
  dialled.on('error', () => undefined).resume();
  const closed = once(socket, 'close');
  socket.end('last');
  process.nextTick(resetSocket, socket);
  await closed;
  t.is(await connectionCount(server), 0);
});

test('resetSocket resets a TCP socket and destroys a unix socket', async (t) => {
  const onTcp = await openPair(
    t,
    readBuffered,
    readInto(100, () => true),
  );
  const reset = once(onTcp.dialled, 'error') as Promise<[NodeJS.ErrnoException]>;
  onTcp.dialled.resume();
  resetSocket(onTcp.socket);
  t.is((await reset)[0].code, 'ECONNRESET');

  const onUnix = await openPair(
    t,
    readBuffered,
    readInto(100, () => true),
    'unix',
  );
  const ended = once(onUnix.dialled, 'end');
  onUnix.dialled.resume();
  resetSocket(onUnix.socket);
  await ended;
  t.true(onUnix.socket.destroyed);
});
