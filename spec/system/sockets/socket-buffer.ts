/** The send buffer of a unix socket, and the buffer of a pipe: requesting a size, and how much it then holds. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import { LocalWriter } from '../../../lib/forward/local-writer.js';
import { SocketLink } from '../../../lib/link/socket-link.js';
import type { Libc, NativeCall } from '../../../lib/system/libc.js';
import { enlargeBuffer, enlargePipe, grantedBuffer } from '../../../lib/system/sockets/socket-buffer.js';
import { temporaryFolder } from '../../helpers/files.js';
import { localServer, localSocket, proxyPair } from '../../helpers/proxies.js';
import { eventually } from '../../helpers/time.js';
import { roomOf, roomOfDescriptor, unixPair } from '../../helpers/unix-pair.js';

const ASKED = 1_048_576;

/** Linux constants. */
const AF_UNIX = 1;
const SO_SNDBUF = 7;
const SO_SNDBUFFORCE = 32;

/** How much of a request is granted: all of it, if this process may exceed the kernel's limit for users. */
const isGranted = (bytes: number | null): boolean => bytes === ASKED || bytes === 2 * kernelBytes('wmem_max');

test('the granted size is reported, and the socket takes that much more', async (t) => {
  const [plain, small, large] = [await unixPair(t), await unixPair(t), await unixPair(t)];
  t.is(await enlargeBuffer(small.near, 65_536), 65_536);
  const granted = await enlargeBuffer(large.near, ASKED);
  t.true(isGranted(granted), String(granted));
  const [least, middle, most] = [roomOf(small.near), roomOf(plain.near), roomOf(large.near)];
  t.true(least >= 65_536 && least <= 2 * 65_536 && least <= middle, `${least}, ${middle} bytes`);
  t.true(most > kernelBytes('wmem_default') && middle <= most, `${middle}, ${most} bytes`);
  t.true(most <= 1.1 * (granted ?? 0), `${most} of ${granted ?? 0} bytes`);
  // The doctor learns the same without a socket of its own.
  t.deepEqual([await grantedBuffer(65_536), await grantedBuffer(ASKED)], [65_536, granted]);
});

test('nothing is requested or loaded for TCP, and for a closed socket', async (t) => {
  const load = () => {
    t.fail('it was loaded');
    return Promise.reject(new Error('never used'));
  };
  const server = await localServer(t, () => undefined);
  const tcp = localSocket(t, { host: '127.0.0.1', port: server.port });
  await once(tcp, 'connect');
  t.is(await enlargeBuffer(tcp, ASKED, load), null);
  t.is(await enlargeBuffer(new net.Socket(), ASKED, load), null);
  const { near } = await unixPair(t);
  near.destroy();
  t.is(await enlargeBuffer(near, ASKED, load), null);
});

test('a socket closed while koffi is being loaded is left alone', async (t) => {
  const { near } = await unixPair(t);
  const failing = () => Promise.reject(new Error('never used'));
  const asking = enlargeBuffer(near, ASKED, () => {
    near.destroy();
    return import('../../../lib/system/libc.js').then(({ loadLibc }) => loadLibc());
  });
  t.is(await asking, null);
  t.is(await enlargeBuffer(near, ASKED, failing), null);
});

test('a process that may not exceed the kernel’s limit for users is granted that', async (t) => {
  const { near } = await unixPair(t);
  const asked: unknown[] = [];
  const calls: Readonly<Record<string, (...args: never[]) => number>> = {
    setsockopt(_fd: number, _level: number, option: number, value: Int32Array) {
      asked.push([option, value[0]]);
      return option === SO_SNDBUFFORCE ? -1 : 0;
    },
    getsockopt(_fd: number, _level: number, option: number, value: Int32Array) {
      value[0] = option === SO_SNDBUF ? 2 * 212_992 : AF_UNIX;
      return 0;
    },
  };
  const libc: Libc = {
    declare: (declaration) => calls[/(\w+)\(/.exec(declaration)?.[1] ?? ''] as NativeCall,
    errno: () => 1,
    address: () => 0n,
  };
  t.is(await enlargeBuffer(near, ASKED, () => Promise.resolve(libc)), 2 * 212_992);
  t.deepEqual(asked, [
    [SO_SNDBUFFORCE, ASKED / 2],
    [SO_SNDBUF, ASKED / 2],
  ]);
});

test('without koffi the socket is unchanged, and koffi is looked for once', async (t) => {
  const { near } = await unixPair(t);
  let loads = 0;
  const load = () => {
    loads += 1;
    return Promise.reject(new Error("Cannot find package 'koffi'"));
  };
  t.is(await enlargeBuffer(near, ASKED, load), null);
  t.is(await enlargeBuffer(near, ASKED, load), null);
  await enlargePipe(0, ASKED, load);
  t.is(loads, 1);
  t.true(roomOf(near) <= kernelBytes('wmem_default'));
});

test('a pipe takes as much as was asked for, and keeps a larger buffer; without koffi it is unchanged', async (t) => {
  const without = () => Promise.reject(new Error("Cannot find package 'koffi'"));
  for (const [wanted, load] of [
    [131_072, undefined],
    [65_536, without],
  ] as const) {
    const path = join(temporaryFolder(t), 'pipe');
    execFileSync('mkfifo', [path]);
    const fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    t.teardown(() => closeSync(fd));
    await enlargePipe(fd, 131_072, load);
    await enlargePipe(fd, 65_536, load);
    t.is(roomOfDescriptor(fd), wanted);
  }
});

/** How often a socket was asked for its domain, the first step of changing its buffer. */
function countAsking(socket: net.Socket): () => number {
  let count = 0;
  Object.defineProperty(socket, 'remoteFamily', {
    get() {
      count += 1;
      return undefined;
    },
  });
  return () => count;
}

for (const [name, write] of [
  ['write', (link: SocketLink, bytes: Buffer) => link.write(bytes)],
  ['writeParts', (link: SocketLink, bytes: Buffer) => link.writeParts([bytes.subarray(0, 100), bytes.subarray(100)])],
] as const) {
  test(`a link enlarges its buffer at the first ${name} that does not fit, once`, async (t) => {
    const { near, far } = await unixPair(t);
    const asked = countAsking(near);
    const link = new SocketLink('near', () => near);
    link.wantBuffer(65_536);
    for (let count = 0; count < 10; count += 1) t.true(write(link, Buffer.alloc(1000)));
    t.is(asked(), 0);
    t.is(link.bufferBytes, null);
    t.false(write(link, Buffer.alloc(4_000_000)));
    await eventually(() => link.bufferBytes !== null);
    t.is(link.bufferBytes, 65_536);
    far.resume();
    await eventually(() => link.unwrittenBytes === 0);
    far.pause();
    t.false(write(link, Buffer.alloc(4_000_000)));
    t.is(asked(), 1);
    const other = (await unixPair(t)).near;
    const askedOther = countAsking(other);
    t.false(write(new SocketLink('other', () => other), Buffer.alloc(4_000_000)));
    t.is(askedOther(), 0, 'nothing was wanted of this one');
  });
}

test('a forward enlarges the buffer of a unix socket when a write does not fit, and not before', async (t) => {
  const { near, far } = await unixPair(t);
  const asked = countAsking(near);
  let taken = 0;
  const writer = new LocalWriter(near, (bytes) => {
    taken += bytes;
  });
  writer.write(Buffer.alloc(1000));
  await eventually(() => taken === 1000);
  t.is(asked(), 0);
  writer.write(Buffer.alloc(4_000_000));
  writer.write(Buffer.alloc(4_000_000));
  t.is(asked(), 1);
  // Until everything has been read: leftovers in the buffer would keep it full.
  let received = 0;
  far.resume().on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  await eventually(() => received === 8_001_000);
  t.is(taken, received);
  t.is(asked(), 1);
  far.pause();
  // Once koffi is loaded; a buffer filled before that stays full.
  let room = 0;
  await eventually(() => {
    room += roomOf(near);
    return room > kernelBytes('wmem_default');
  });
});

test('bytes waiting for a socket to connect are not a sign of a full buffer', async (t) => {
  const server = await localServer(t, (socket) => socket.resume());
  const socket = localSocket(t, { host: '127.0.0.1', port: server.port });
  const asked = countAsking(socket);
  let taken = 0;
  new LocalWriter(socket, (bytes) => {
    taken += bytes;
  }).write(Buffer.alloc(1000));
  await eventually(() => taken === 1000);
  t.is(asked(), 0);
});

test('the status of a channel has the size granted to its link; each side requests its own', async (t) => {
  const server = await localServer(t, (socket) => socket.pipe(socket));
  const { a, b } = await proxyPair(t, { targets: `echo:${server.port}`, b: { bufferBytes: 65_536 } });
  const granted = () => [a, b].map(({ proxy }) => proxy.listChannels()[0]?.bufferBytes ?? null);
  t.deepEqual(granted(), [null, null]);
  const socket = localSocket(t, { host: '127.0.0.1', port: a.port('echo') }).resume();
  const write = (): void => void socket.write(Buffer.alloc(1_000_000), () => !socket.destroyed && write());
  write();
  await eventually(() => granted().every((bytes) => bytes !== null));
  socket.destroy();
  const [own, peers] = granted();
  t.true(isGranted(own ?? null), String(own));
  t.is(peers, 65_536);
});

/** A kernel setting for sockets: the limit for users, or the default. */
const kernelBytes = (name: 'wmem_max' | 'wmem_default'): number =>
  Number(readFileSync(`/proc/sys/net/core/${name}`, 'utf8'));
