/** Accepted sockets that are read into buffers of this side: without a copy, or as Node does it where that is not possible. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type net from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { copyIntoBuffers, type OnRead, readBuffered, resetSocket } from '../../../lib/system/sockets/node-sockets.js';
import { deferred } from '../../../lib/util/concurrency.js';
import { sha256, temporaryFolder } from '../../helpers/files.js';
import { failureOf, localServer, localSocket, readToEnd } from '../../helpers/proxies.js';

type Read = typeof readBuffered;

/** A server whose one accepted socket is read through `read` into an `onread`, and a client connected to it. */
async function openPair(t: ExecutionContext, read: Read, onread: OnRead, where: 'tcp' | 'unix' = 'tcp') {
  const accepted = deferred<net.Socket>();
  const address = where === 'tcp' ? { host: '127.0.0.1', port: 0 } : { path: join(temporaryFolder(t), 's') };
  const accept = (socket: net.Socket): void => accepted.resolve(read(socket, onread));
  const server = await localServer(t, accept, address, { pauseOnConnect: true });
  const dialled = localSocket(t, where === 'tcp' ? { port: server.port } : address);
  await once(dialled, 'connect');
  return { server, dialled, socket: await accepted.promise };
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

const connectionCount = (server: net.Server): Promise<number> => promisify(server.getConnections.bind(server))();

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

/** Reads all that comes, and drops it. */
const dropping = (): OnRead => readInto(100, () => true);

for (const [name, read] of [
  ['fast path', readBuffered],
  ['fallback', copyIntoBuffers],
] as const) {
  for (const where of ['tcp', 'unix'] as const) {
    test(`${name}, ${where}: 5 MB come back unchanged, and both ends of file come`, async (t) => {
      const sendBack = (bytes: Buffer): boolean => {
        socket.write(bytes);
        return true;
      };
      const { dialled, socket } = await openPair(t, read, readInto(64 * 1024, sendBack), where);
      const sent = randomBytes(5_000_003);
      socket.on('end', () => socket.end());
      dialled.end(sent);
      t.is(sha256(await readToEnd(dialled)), sha256(sent));
    });
  }

  test(`${name}: a callback that returns false gets nothing until resume()`, async (t) => {
    let [got, isPaused] = ['', true];
    const [first, last] = [deferred(), deferred()];
    const take = (bytes: Buffer): boolean => {
      got += String(bytes);
      first.resolve();
      if (got.length === 26) last.resolve();
      return !isPaused;
    };
    const { dialled, socket } = await openPair(t, read, readInto(10, take));
    dialled.write('abcdefghijklmnopqrstuvwxyz');
    await first.promise;
    await turnLoop();
    t.is(got, 'abcdefghij');
    isPaused = false;
    socket.resume();
    await last.promise;
    t.is(got, 'abcdefghijklmnopqrstuvwxyz');
  });

  test(`${name}: paused in the same turn it reads nothing until resume()`, async (t) => {
    const got: string[] = [];
    const arrived = deferred();
    const take = (bytes: Buffer): boolean => {
      got.push(String(bytes));
      arrived.resolve();
      return true;
    };
    const pausing: Read = (given, onread) => read(given, onread).pause();
    const { dialled, socket } = await openPair(t, pausing, readInto(100, take));
    dialled.write('early');
    await turnLoop();
    t.deepEqual(got, []);
    socket.resume();
    await arrived.promise;
    t.deepEqual(got, ['early']);
  });

  test(`${name}: after the end of file the other direction still works`, async (t) => {
    const { dialled, socket } = await openPair(t, read, dropping());
    const ended = once(socket, 'end');
    dialled.end('request');
    await ended;
    t.true(socket.writable);
    const [answer, closed] = [once(dialled, 'data'), once(socket, 'close')];
    socket.end('answer');
    t.is(String((await answer)[0]), 'answer');
    await closed;
  });

  test(`${name}: a reset reaches the other end, either way`, async (t) => {
    const outgoing = await openPair(t, read, dropping());
    const seen = failureOf(outgoing.dialled);
    outgoing.socket.resetAndDestroy();
    t.is((await seen).code, 'ECONNRESET');

    const incoming = await openPair(t, read, dropping());
    const heard = once(incoming.socket, 'error') as Promise<[NodeJS.ErrnoException]>;
    incoming.dialled.resetAndDestroy();
    t.is((await heard)[0].code, 'ECONNRESET');
  });

  test(`${name}: the server counts its sockets, and closes when the last is gone`, async (t) => {
    const { server, dialled, socket } = await openPair(t, read, dropping());
    t.is(await connectionCount(server), 1);
    const closed = once(server, 'close');
    server.close();
    t.is(await connectionCount(server), 1, 'a server that closes still waits for its socket');
    socket.on('end', () => socket.end());
    dialled.end();
    await closed;
    t.is(await connectionCount(server), 0);
  });
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
  const { server, socket } = await openPair(t, readBuffered, dropping());
  socket.destroy();
  t.is(await connectionCount(server), 0);
});

test('resetSocket closes a socket whose end was just said, and frees its descriptor', async (t) => {
  const { server, dialled, socket } = await openPair(t, readBuffered, dropping());
  dialled.on('error', () => undefined).resume();
  const closed = once(socket, 'close');
  socket.end('last');
  process.nextTick(resetSocket, socket);
  await closed;
  t.is(await connectionCount(server), 0);
});

test('resetSocket resets a TCP socket and destroys a unix socket', async (t) => {
  const onTcp = await openPair(t, readBuffered, dropping());
  const reset = failureOf(onTcp.dialled);
  resetSocket(onTcp.socket);
  t.is((await reset).code, 'ECONNRESET');

  const onUnix = await openPair(t, readBuffered, dropping(), 'unix');
  const ended = once(onUnix.dialled, 'end');
  onUnix.dialled.resume();
  resetSocket(onUnix.socket);
  await ended;
  t.true(onUnix.socket.destroyed);
});
