/** Accepted sockets read into this side's buffers: without a copy, or the way Node does if that is not possible. */
import { randomBytes } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import net from 'node:net';
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

/** An `onread` over one buffer of `size` bytes that passes a copy of every piece to `take`. */
function readInto(size: number, take: (bytes: Buffer) => boolean): OnRead {
  const slab = Buffer.alloc(size);
  return { buffer: () => slab, callback: (count) => take(Buffer.from(slab.subarray(0, count))) };
}

/** Lets the event loop poll its sockets several times. */
async function turnLoop() {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}

const connectionCount = (server: net.Server): Promise<number> => promisify(server.getConnections.bind(server))();

/** An `onread` that offers a new buffer of 16 bytes each time, and what was read; `read` resolves once so many bytes were. */
function offering(count: number) {
  const [offered, filled]: [Buffer[], Uint8Array[]] = [[], []];
  const read = deferred();
  const onread: OnRead = {
    buffer: () => offered[offered.push(Buffer.alloc(16)) - 1] as Buffer,
    callback(byteCount, buffer) {
      if (filled.push(buffer.subarray(0, byteCount)) === count) read.resolve();
      return true;
    },
  };
  return { onread, offered, filled, read: read.promise };
}

test.before('a socket without what Node keeps in it is read by copies', (t) => {
  const unknown = Object.assign(new EventEmitter(), { _handle: { useUserBuffer: t.fail }, resume: () => unknown });
  const pieces: string[] = [];
  readBuffered(
    unknown as unknown as net.Socket,
    readInto(4, (bytes) => pieces.push(bytes.toString()) > 0),
  );
  unknown.emit('data', Buffer.from('hello'));
  t.deepEqual(pieces, ['hell', 'o']);
});

test('this version of Node has the fast path: buffered bytes, then the handle, are read without a copy', async (t) => {
  for (const [held, written] of [
    ['', 'hello'],
    ['what it holds, ', 'and more'],
  ] as const) {
    const expected = [held, written].filter((text) => text !== '');
    const { onread, offered, filled, read } = offering(expected.length);
    const readHeld: Read = (socket, into) => {
      if (held !== '') socket.unshift(Buffer.from(held));
      return readBuffered(socket, into);
    };
    const { dialled } = await openPair(t, readHeld, onread);
    dialled.write(written);
    await read;
    const texts = filled.map((bytes) => Buffer.from(bytes).toString());
    t.deepEqual(texts, expected);
    t.true(filled.every(({ buffer }, index) => buffer === offered[index]?.buffer));
    t.is(offered.length, expected.length + 1, 'the next buffer is asked for after the call');
  }
});

/** Reads and drops everything. */
const dropping = (): OnRead => readInto(100, () => true);

for (const [name, read] of [
  ['fast path', readBuffered],
  ['fallback', copyIntoBuffers],
] as const) {
  for (const where of ['tcp', 'unix'] as const) {
    test(`${name}, ${where}: 5 MB come back unchanged, with both EOFs`, async (t) => {
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

  test(`${name}: nothing is read before resume() once a callback returned false, or after an early pause()`, async (t) => {
    for (const isPaused of [false, true]) {
      let [got, isFull] = ['', true];
      const [first, last] = [deferred(), deferred()];
      const take = (bytes: Buffer): boolean => {
        got += String(bytes);
        first.resolve();
        if (got.length === 26) last.resolve();
        return !isFull;
      };
      const open: Read = (given, onread) => (isPaused ? read(given, onread).pause() : read(given, onread));
      const { dialled, socket } = await openPair(t, open, readInto(10, take));
      dialled.write('abcdefghijklmnopqrstuvwxyz');
      if (!isPaused) await first.promise;
      await turnLoop();
      t.is(got, isPaused ? '' : 'abcdefghij');
      isFull = false;
      socket.resume();
      await last.promise;
      t.is(got, 'abcdefghijklmnopqrstuvwxyz');
    }
  });

  test(`${name}: after EOF the other direction works, and a closing server waits for it`, async (t) => {
    const { server, dialled, socket } = await openPair(t, read, dropping());
    const [ended, closed] = [once(socket, 'end'), once(server, 'close')];
    server.close();
    dialled.end('request');
    await ended;
    t.true(socket.writable);
    t.is(await connectionCount(server), 1);
    const answer = once(dialled, 'data');
    socket.end('answer');
    t.is(String((await answer)[0]), 'answer');
    await closed;
    t.is(await connectionCount(server), 0);
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
}

test('resetSocket closes a socket right after end(), and frees its descriptor', async (t) => {
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

  // Only TCP has a reset, which Node would call before it has connected.
  const connecting = net.connect({ path: join(temporaryFolder(t), 'nobody') }).on('error', () => undefined);
  const closed = new Promise((resolve) => connecting.once('close', resolve));
  resetSocket(connecting);
  await closed;
});
