/** Listening sockets that a service manager keeps: what it is told, what comes back to the next process, and what becomes of the rest. */
import { once } from 'node:events';
import { fstatSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { announceSuccessor } from '../../cli/service/service-manager.js';
import { StoredListeners, storedName } from '../../cli/service/stored-listeners.js';
import { systemCode } from '../../lib/errors.js';
import type { LogEvent } from '../../lib/events.js';
import { loadLibc } from '../../lib/system/libc.js';
import { listenerKey } from '../../lib/system/sockets/listener-store.js';
import { listen } from '../../lib/system/sockets/listening.js';
import { descriptorOf } from '../../lib/system/sockets/node-sockets.js';
import { loadMessageCalls } from '../../lib/system/unix-messages.js';
import { openDatagramManager, type ServiceMessage } from '../helpers/datagram-manager.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { ManualClock } from '../helpers/time.js';

const TIMEOUT_MS = 20_000;
/** More than the pause before a message is sent again, in milliseconds. */
const PAUSE_MS = 1000;

/** A listening socket, by its descriptor; it is closed with the test. */
async function listening(t: ExecutionContext) {
  const server = await localServer(t, (socket) => socket.end('answered'));
  return {
    server,
    port: server.port,
    key: `tcp 127.0.0.1:${server.port}`,
    fd: descriptorOf(server) ?? -1,
  };
}

async function setUp(t: ExecutionContext, { inherited = new Map<string, number>(), size = 100 } = {}) {
  const manager = await openDatagramManager(t);
  const clock = new ManualClock();
  const events: LogEvent[] = [];
  const log = (event: LogEvent) => void events.push(event);
  const open = (options: object = {}) =>
    StoredListeners.open({ socket: manager.address, size, inherited, log, clock, ...options });
  return { manager, clock, events, open, store: await open() };
}

/** Another descriptor of the same file. */
const duplicate = (await loadLibc()).declare('int dup(int fd)');

const fileOf = (fd: number): string => {
  const { dev, ino } = fstatSync(fd);
  return `${dev}:${ino}`;
};

const storing = (key: string): string[] => ['FDSTORE=1', 'FDPOLL=0', `FDNAME=${storedName(key)}`];
const removing = (key: string): string[] => ['FDSTOREREMOVE=1', `FDNAME=${storedName(key)}`];
const factsOf = (messages: readonly ServiceMessage[]) => messages.map(({ facts }) => facts);

/** What a connection to a port comes to. */
async function connectTo(t: ExecutionContext, port: number): Promise<string> {
  const socket = localSocket(t, { host: '127.0.0.1', port });
  try {
    await once(socket, 'connect');
    return 'connected';
  } catch (error) {
    return systemCode(error);
  }
}

test('a socket is stored with its descriptor once, and goes from the store before it closes', async (t) => {
  const { manager, store, events } = await setUp(t);
  const { key, fd, port } = await listening(t);
  store.put(key, fd);
  store.put(key, fd);
  const messages = manager.receive();
  t.deepEqual(factsOf(messages), [storing(key)]);
  t.deepEqual(messages[0]?.descriptors.map(fileOf), [fileOf(fd)], 'it is the same socket');
  t.true(store.remove('tcp 127.0.0.1:1'), 'what was never stored may go');
  t.deepEqual(manager.receive(), []);
  t.true(store.remove(key));
  t.deepEqual(factsOf(manager.receive()), [removing(key)]);
  // Though the service manager has it still, as it has not read that.
  t.is(await connectTo(t, port), 'ECONNREFUSED');
  t.deepEqual(events, []);
});

test('another socket in the place of one takes its place in the store', async (t) => {
  const { manager, store } = await setUp(t);
  const [one, other] = [await listening(t), await listening(t)];
  store.put(one.key, one.fd);
  store.put(one.key, other.fd);
  t.deepEqual(factsOf(manager.receive()), [storing(one.key), removing(one.key), storing(one.key)]);
  t.is(await connectTo(t, one.port), 'connected');
});

test('what comes back is given once, is not stored again, and what nobody has taken is closed', async (t) => {
  const sockets = [await listening(t), await listening(t)] as const;
  const { manager, store: before } = await setUp(t);
  for (const { key, fd } of sockets) before.put(key, fd);
  const kept = manager
    .receive()
    .map(({ descriptors: [fd = -1] }, index) => [storedName(sockets[index]?.key ?? ''), fd] as const);
  const { manager: next, store } = await setUp(t, {
    inherited: new Map(kept.map(([name, fd]) => [name, duplicate(fd)])),
  });
  const [used, unused] = sockets;
  const fd = store.take(used.key);
  t.is(fileOf(fd ?? -1), fileOf(used.fd));
  t.is(store.take(used.key), null);
  t.is(store.take('tcp 127.0.0.1:1'), null);
  store.put(used.key, fd ?? -1);
  t.deepEqual(next.receive(), []);
  t.true(store.settle());
  t.false(store.settle());
  t.deepEqual(factsOf(next.receive()), [removing(unused.key)]);
  t.is(await connectTo(t, unused.port), 'ECONNREFUSED');
  t.is(await connectTo(t, used.port), 'connected');
});

test('what a busy service manager does not take is sent in order as soon as it does', async (t) => {
  const { manager, clock, store, events } = await setUp(t);
  const { fd } = await listening(t);
  const count = 3 * Number(readFileSync('/proc/sys/net/unix/max_dgram_qlen', 'utf8'));
  const keys = Array.from({ length: Math.min(count, 90) }, (_, index) => `tcp 127.0.0.1:${index + 1}`);
  for (const key of keys) store.put(key, fd);
  t.is(clock.pending, 1);
  const seen = manager.receive();
  t.true(seen.length < keys.length);
  // What has not been sent yet need not be.
  const last = keys.at(-1) ?? '';
  t.true(store.remove(last));
  while (clock.pending > 0) {
    clock.advance(PAUSE_MS);
    seen.push(...manager.receive());
  }
  t.deepEqual(factsOf(seen), [...keys.slice(0, -1).map(storing), removing(last)]);
  t.deepEqual(events, []);
});

test('where the process ends, what is stored stays', async (t) => {
  const { manager, clock, store } = await setUp(t);
  const [one, late] = [await listening(t), await listening(t)];
  store.put(one.key, one.fd);
  manager.receive();
  store.end();
  t.false(store.remove(one.key));
  store.put(late.key, late.fd);
  t.true(store.remove(late.key));
  t.deepEqual(manager.receive(), []);
  t.is(clock.pending, 0);
  t.is(await connectTo(t, one.port), 'connected');
});

test('without koffi what came is taken, nothing is stored, and that is told once', async (t) => {
  const { fd, key, port } = await listening(t);
  const other = await listening(t);
  const inherited = new Map([
    [storedName(key), duplicate(fd)],
    [storedName(other.key), duplicate(other.fd)],
  ]);
  const { manager, open, events } = await setUp(t, { inherited });
  const store = await open({ load: () => Promise.reject(new Error("Cannot find package 'koffi'")) });
  const taken = store.take(key);
  t.is(fileOf(taken ?? -1), fileOf(fd));
  store.put('tcp 127.0.0.1:1', fd);
  t.true(store.settle());
  t.true(store.remove(key));
  store.end();
  t.deepEqual(manager.receive(), []);
  t.is(await connectTo(t, port), 'connected');
  t.deepEqual(
    events.map(({ event, level }) => [event, level]),
    [['listeners-not-kept', 'warn']],
  );
  t.regex(events[0]?.message ?? '', /needs the optional package koffi, which cannot be loaded: Cannot find package/);
});

test('what cannot be told, and what is too much, is a warning, once', async (t) => {
  const { fd } = await listening(t);
  const { manager, open, events } = await setUp(t);
  const unheard = await open({ socket: join(temporaryFolder(t), 'none.sock') });
  unheard.put('tcp 127.0.0.1:1', fd);
  unheard.put('tcp 127.0.0.1:2', fd);
  t.regex(
    events[0]?.message ?? '',
    /^listening sockets are not kept while the service is restarted: there is no such file or folder \(ENOENT\)$/,
  );
  const wrong = await open({ socket: `/${'x'.repeat(200)}` });
  wrong.put('tcp 127.0.0.1:1', fd);
  t.regex(events[1]?.message ?? '', /: name too long \(ENAMETOOLONG\)$/);
  t.true(wrong.remove('tcp 127.0.0.1:1'));
  const small = await open({ size: 2 });
  for (const port of [1, 2, 3, 4]) small.put(`tcp 127.0.0.1:${port}`, fd);
  t.is(manager.receive().length, 2);
  t.regex(events[2]?.message ?? '', /: the service manager keeps 2 of them \(FileDescriptorStoreMax=\)$/);
  t.is(events.length, 3);
  small.end();
  t.false(small.remove('tcp 127.0.0.1:2'));
  t.true(small.remove('tcp 127.0.0.1:3'), 'it was not stored');
});

test('names are ones that a service manager takes, and tell addresses apart', (t) => {
  for (const key of ['tcp 127.0.0.1:9500', 'tcp [::1]:80', `unix /run/ä ö\n${'x'.repeat(300)} 600 -1 -1 1:2`]) {
    t.regex(storedName(key), /^listener-[A-Za-z0-9.,/_-]{1,220}$/);
  }
  t.regex(storedName('tcp 127.0.0.1:9500'), /^listener-tcp_127\.0\.0\.1_9500-[0-9a-f]{16}$/);
  t.not(storedName('unix /a_b'), storedName('unix /a b'));
});

test('a key is of an address and who may connect to it, and of a unix socket as long as its file is the same', async (t) => {
  t.is(listenerKey({ host: '127.0.0.1', port: 9500 }), 'tcp 127.0.0.1:9500');
  t.is(listenerKey({ host: '::1', port: 9500 }), 'tcp [::1]:9500');
  t.is(listenerKey({ host: '127.0.0.1', port: 0 }), null);
  const path = join(temporaryFolder(t), 'x.sock');
  t.is(listenerKey({ path }), null);
  const bind = async () => {
    const server = net.createServer();
    t.teardown(() => server.close());
    await listen(server, { path });
    return listenerKey({ path });
  };
  const first = await bind();
  t.not(first, null);
  t.is(listenerKey({ path }), first);
  t.is(listenerKey({ path, access: { mode: 0o600, uid: -1, gid: -1 } }), first);
  t.not(listenerKey({ path, access: { mode: 0o660, uid: -1, gid: -1 } }), first);
  t.not(listenerKey({ path, access: { mode: 0o600, uid: 7, gid: -1 } }), first);
  renameSync(path, `${path}.old`);
  t.is(listenerKey({ path }), null);
  t.not(await bind(), first);
  writeFileSync(`${path}.file`, '');
  t.is(listenerKey({ path: `${path}.file` }), null);
  symlinkSync(path, `${path}.link`);
  t.is(listenerKey({ path: `${path}.link` }), null, 'what is bound there is another file');
  symlinkSync('loop', `${path}.loop`);
  t.is(listenerKey({ path: `${path}.loop/x.sock` }), null, 'a path that leads nowhere');
});

test('a successor is announced as the main process, also to a service manager that is busy', async (t) => {
  const { manager } = await setUp(t);
  const calls = await loadMessageCalls();
  announceSuccessor(calls, manager.address, 4711, TIMEOUT_MS);
  t.deepEqual(factsOf(manager.receive()), [['MAINPID=4711', 'WATCHDOG=1']]);
  const full = () => announceSuccessor(calls, manager.address, 4711, 50);
  const error = t.throws(() => {
    for (;;) full();
  });
  t.is(systemCode(error), 'ETIMEDOUT');
  manager.receive();
  full();
  t.is(manager.receive().length, 1);
  t.is(systemCode(t.throws(() => announceSuccessor(calls, `${manager.address}-none`, 1, 50))), 'ECONNREFUSED');
});
