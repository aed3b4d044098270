/** The exchange with a service manager: the environment, the status, failed notifications, and stored listening sockets. */
import { once } from 'node:events';
import { chmodSync, fstatSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { takeServiceEnvironment } from '../../cli/service/environment.js';
import { Notifier } from '../../cli/service/notifier.js';
import { announceSuccessor, formatServiceStatus } from '../../cli/service/service-manager.js';
import { StoredListeners, storedName } from '../../cli/service/stored-listeners.js';
import { systemCode } from '../../lib/errors.js';
import type { LogEvent } from '../../lib/events.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { loadLibc } from '../../lib/system/libc.js';
import { listenerKey } from '../../lib/system/sockets/listener-store.js';
import { listen } from '../../lib/system/sockets/listening.js';
import { descriptorOf } from '../../lib/system/sockets/node-sockets.js';
import { loadMessageCalls } from '../../lib/system/unix-messages.js';
import { openDatagramManager, type ServiceMessage } from '../helpers/datagram-manager.js';
import { temporaryFolder } from '../helpers/files.js';
import { localServer, localSocket } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** Another descriptor of the same file. */
const duplicate = (await loadLibc()).declare('int dup(int fd)');

test('the environment is read only for this process, and removed for its children', (t) => {
  const read = (environment: Record<string, string>) => {
    const copy: Record<string, string | undefined> = { ...environment, HOME: '/root' };
    const { storedDescriptors, ...found } = takeServiceEnvironment(copy, 77);
    t.deepEqual(copy, { HOME: '/root' });
    return { ...found, stored: [...storedDescriptors] };
  };
  const none = { notifySocket: null, watchdogMs: null, storeSize: 0, controlDescriptor: null, refusedOptions: null };
  const nothing = { ...none, stored: [] };
  const [one, other] = [storedName('tcp 127.0.0.1:80'), storedName('unix /x 600 -1 -1 1:2')];
  for (const environment of [
    {},
    { NOTIFY_SOCKET: '', WATCHDOG_USEC: '0', LISTEN_FDS: '0', LISTEN_PID: '77' },
    { WATCHDOG_USEC: '9', WATCHDOG_PID: '78', LISTEN_FDS: '1', LISTEN_PID: '78', LISTEN_FDNAMES: one, FDSTORE: 'x' },
    { WATCHDOG_USEC: 'x', LISTEN_FDS: '1', VPROXY_OPTIONS_REFUSED: '' },
  ]) {
    t.deepEqual(read(environment), nothing);
  }
  const notified = { NOTIFY_SOCKET: '@a', WATCHDOG_USEC: '3000000', WATCHDOG_PID: '77', FDSTORE: '16' };
  t.deepEqual(read(notified), { ...nothing, notifySocket: '@a', watchdogMs: 3000, storeSize: 16 });
  /** The descriptors of these names. */
  const handed = (names: string) => {
    const count = String(names.split(':').length);
    const { controlDescriptor, stored } = read({ LISTEN_FDS: count, LISTEN_PID: '77', LISTEN_FDNAMES: names });
    return [controlDescriptor, ...stored.flat()];
  };
  t.is(read({ LISTEN_FDS: '1', LISTEN_PID: '77' }).controlDescriptor, 3);
  t.deepEqual(handed('vproxy.socket'), [3]);
  t.deepEqual(handed('other:control'), [4]);
  t.deepEqual(handed(one), [null, one, 3]);
  t.deepEqual(handed(`${one}:vproxy.socket:${other}`), [4, one, 3, other, 5]);
  t.deepEqual(handed(`x:${one}:control`), [5, one, 4]);
  for (const names of ['x:y', `x:${one}:y`]) {
    t.throws(() => handed(names), { message: 'LISTEN_FDNAMES: none of 2 descriptors is named control: x:y' });
  }
});

test('the status is that of the only channel, or how many of several have a session; names of peers are escaped', (t) => {
  const down = { state: 'backing-off', detail: 'connection refused', session: null };
  const up = { state: 'established', detail: null, session: { peer: { name: 'guest\n1', agent: 'vproxy 1' } } };
  const format = (...channels: object[]) => formatServiceStatus(channels as ChannelStatus[]);
  t.is(format(), 'no channels');
  t.is(format(down), 'no session, backing-off: connection refused');
  t.is(format(up), 'session with guest\\n1 (vproxy 1)');
  t.is(format(up, down), '1 of 2 channels has a session');
  t.is(format(up, up, down), '2 of 3 channels have a session');
});

/** A notifier whose systemd-notify fails while a file exists. */
function failingNotifier(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const [program, broken, sent] = [`${folder}/systemd-notify`, `${folder}/broken`, `${folder}/sent`];
  const script = `#!/bin/sh\necho "$*" >> '${sent}'\n[ ! -e '${broken}' ] || { echo 'no barrier' >&2; exit 1; }\n`;
  writeFileSync(program, script);
  chmodSync(program, 0o755);
  writeFileSync(sent, '');
  writeFileSync(broken, '');
  const clock = new ManualClock();
  const events: LogEvent[] = [];
  const notifier = new Notifier({ socket: '/none', log: (event) => events.push(event), program, clock });
  const attempts = () => readFileSync(sent, 'utf8').trimEnd().split('\n');
  return {
    ...{ notifier, clock, events, attempts, broken },
    names: () => events.map(({ event }) => event),
    /** Resolves when it has tried this often, and waits to retry. */
    pauses: (count: number) =>
      eventually(() => clock.pending === 1 && attempts().length === count, { what: 'a pause' }),
  };
}

test('a failed notification is retried, with newer ones, until it has arrived', async (t) => {
  const { notifier, clock, events, names, attempts, broken, pauses } = failingNotifier(t);
  notifier.notify({ READY: '1', STATUS: 'no session' });
  await pauses(1);
  notifier.notify({ STATUS: 'a session', WATCHDOG: '1' });
  clock.advance(10_000);
  await pauses(2);
  t.deepEqual(attempts(), ['READY=1 STATUS=no session', 'READY=1 STATUS=a session WATCHDOG=1']);
  t.deepEqual(names(), ['notify-failed']);
  t.regex(events[0]?.message ?? '', /^cannot notify the service manager: .*systemd-notify: no barrier; retrying$/);
  rmSync(broken);
  clock.advance(10_000);
  await eventually(() => names().length === 2);
  t.deepEqual(names(), ['notify-failed', 'notify-recovered']);
  notifier.notify({ WATCHDOG: '1' });
  await eventually(() => attempts().length === 4);
  t.deepEqual(attempts().slice(2), ['READY=1 STATUS=a session WATCHDOG=1', 'WATCHDOG=1']);
  // Another failure is retried as soon as the first one: after a second, with a quarter of jitter.
  writeFileSync(broken, '');
  notifier.notify({ WATCHDOG: '1' });
  await pauses(5);
  clock.advance(1250);
  await eventually(() => attempts().length === 6);
  await notifier.end({ STOPPING: '1' });
  t.is(clock.pending, 0);
});

test('the pauses between attempts stay short; at the end a pending notification is tried once more', async (t) => {
  const { notifier, clock, pauses, attempts, names } = failingNotifier(t);
  notifier.notify({ READY: '1' });
  let passedMs = 0;
  for (let count = 1; count < 7; count += 1) {
    await pauses(count);
    for (; clock.pending > 0; passedMs += 100) clock.advance(100);
  }
  // 1, 2, 4 s, and from then on 5 s, each with a quarter of jitter.
  t.true(passedMs < 1.3 * (1 + 2 + 4 + 5 + 5 + 5) * 1000, `${passedMs}`);
  await pauses(7);
  await notifier.end({ STATUS: 'ending', STOPPING: '1' });
  t.deepEqual(attempts().slice(6), ['READY=1', 'READY=1 STATUS=ending STOPPING=1']);
  t.is(clock.pending, 0);
  t.deepEqual(names(), ['notify-failed']);
});

test('a notification during a failing end is tried once', async (t) => {
  const { notifier, clock, attempts } = failingNotifier(t);
  notifier.notify({ STATUS: 'a session' });
  await notifier.end({ STOPPING: '1' });
  t.deepEqual(attempts(), ['STATUS=a session', 'STATUS=a session STOPPING=1']);
  t.is(clock.pending, 0);
});

/** The descriptor of a listening socket, which is closed with the test. */
async function listening(t: ExecutionContext) {
  const server = await localServer(t, (socket) => socket.end('answered'));
  return { port: server.port, key: `tcp 127.0.0.1:${server.port}`, fd: descriptorOf(server) ?? -1 };
}

async function storing(t: ExecutionContext, { inherited = new Map<string, number>(), size = 100 } = {}) {
  const manager = await openDatagramManager(t);
  const clock = new ManualClock();
  const events: LogEvent[] = [];
  const log = (event: LogEvent) => void events.push(event);
  const open = (options: object = {}) =>
    StoredListeners.open({ socket: manager.address, size, inherited, log, clock, ...options });
  return { manager, clock, events, open, store: await open() };
}

const fileOf = (fd: number | undefined): string => {
  const { dev, ino } = fstatSync(fd ?? -1);
  return `${dev}:${ino}`;
};

const stored = (key: string): string[] => ['FDSTORE=1', 'FDPOLL=0', `FDNAME=${storedName(key)}`];
const removed = (key: string): string[] => ['FDSTOREREMOVE=1', `FDNAME=${storedName(key)}`];
const factsOf = (messages: readonly ServiceMessage[]) => messages.map(({ facts }) => facts);

/** The outcome of a connection to a port. */
const connectTo = (t: ExecutionContext, port: number): Promise<string> =>
  once(localSocket(t, port), 'connect').then(() => 'connected', systemCode);

test('a socket is stored with its descriptor once, replaced by another one, and removed from the store before it closes', async (t) => {
  const { manager, store, events } = await storing(t);
  const [one, other] = [await listening(t), await listening(t)];
  store.put(one.key, one.fd);
  store.put(one.key, one.fd);
  const messages = manager.receive();
  t.deepEqual(factsOf(messages), [stored(one.key)]);
  t.deepEqual(messages[0]?.descriptors.map(fileOf), [fileOf(one.fd)], 'it is the same socket');
  store.put(one.key, other.fd);
  t.deepEqual(factsOf(manager.receive()), [removed(one.key), stored(one.key)]);
  t.is(await connectTo(t, one.port), 'connected');
  t.true(store.remove('tcp 127.0.0.1:1'), 'what was never stored may go');
  t.deepEqual(manager.receive(), []);
  t.true(store.remove(one.key));
  t.deepEqual(factsOf(manager.receive()), [removed(one.key)]);
  // The service manager still has it, as it has not read that.
  t.is(await connectTo(t, other.port), 'ECONNREFUSED');
  t.deepEqual(events, []);
});

test('a returned socket is handed out once and not stored again; unused ones are closed', async (t) => {
  const [used, unused] = [await listening(t), await listening(t)];
  const { manager, store: before } = await storing(t);
  const kept = [used, unused].map(({ key, fd }) => {
    before.put(key, fd);
    return [storedName(key), duplicate(manager.receive()[0]?.descriptors[0] ?? -1)] as const;
  });
  const { manager: next, store } = await storing(t, { inherited: new Map(kept) });
  const fd = store.take(used.key) ?? -1;
  t.is(fileOf(fd), fileOf(used.fd));
  t.deepEqual([store.take(used.key), store.take('tcp 127.0.0.1:1')], [null, null]);
  store.put(used.key, fd);
  t.deepEqual(next.receive(), []);
  t.deepEqual([store.settle(), store.settle()], [true, false]);
  t.deepEqual(factsOf(next.receive()), [removed(unused.key)]);
  t.is(await connectTo(t, unused.port), 'ECONNREFUSED');
  t.is(await connectTo(t, used.port), 'connected');
});

test('messages that a busy service manager does not accept are sent in order as soon as it does', async (t) => {
  const { manager, clock, store, events } = await storing(t);
  const { fd } = await listening(t);
  const count = 3 * Number(readFileSync('/proc/sys/net/unix/max_dgram_qlen', 'utf8'));
  const keys = Array.from({ length: Math.min(count, 90) }, (_, index) => `tcp 127.0.0.1:${index + 1}`);
  for (const key of keys) store.put(key, fd);
  t.is(clock.pending, 1);
  const seen = manager.receive();
  t.true(seen.length < keys.length);
  // Unsent messages that are obsolete need not be sent.
  const last = keys.at(-1) ?? '';
  t.true(store.remove(last));
  for (; clock.pending > 0; seen.push(...manager.receive())) clock.advance(1000);
  t.deepEqual(factsOf(seen), [...keys.slice(0, -1).map(stored), removed(last)]);
  t.deepEqual(events, []);
});

test('stored sockets stay when the process exits', async (t) => {
  const { manager, clock, store } = await storing(t);
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

test('without koffi inherited sockets are used, none are stored, and a warning is logged once', async (t) => {
  const [one, other] = [await listening(t), await listening(t)];
  const inherited = new Map([one, other].map(({ key, fd }) => [storedName(key), duplicate(fd)]));
  const { manager, open, events } = await storing(t, { inherited });
  const store = await open({ load: () => Promise.reject(new Error("Cannot find package 'koffi'")) });
  t.is(fileOf(store.take(one.key) ?? -1), fileOf(one.fd));
  store.put('tcp 127.0.0.1:1', one.fd);
  t.true(store.settle());
  t.true(store.remove(one.key));
  store.end();
  t.deepEqual(manager.receive(), []);
  t.is(await connectTo(t, one.port), 'connected');
  t.is(events.length, 1);
  t.like(events[0], { event: 'listeners-not-kept', level: 'warn' });
  t.regex(events[0]?.message ?? '', /cannot load the optional package koffi: Cannot find package/);
});

test('a message that cannot be sent, and too many sockets, are a warning, once', async (t) => {
  const { fd } = await listening(t);
  const { manager, open, events } = await storing(t);
  const put = async (options: object, ports: readonly number[]) => {
    const store = await open(options);
    for (const port of ports) store.put(`tcp 127.0.0.1:${port}`, fd);
    return store;
  };
  await put({ socket: join(temporaryFolder(t), 'none.sock') }, [1, 2]);
  const wrong = await put({ socket: `/${'x'.repeat(200)}` }, [1]);
  t.true(wrong.remove('tcp 127.0.0.1:1'));
  const small = await put({ size: 2 }, [1, 2, 3, 4]);
  t.is(manager.receive().length, 2);
  const prefix = 'listening sockets will not survive a restart of the service: ';
  t.deepEqual(
    events.map(({ message }) => message.replace(prefix, '')),
    [
      ...['no such file or directory (ENOENT)', 'name too long (ENAMETOOLONG)'],
      'the service manager keeps at most 2 (FileDescriptorStoreMax=)',
    ],
  );
  small.end();
  t.false(small.remove('tcp 127.0.0.1:2'));
  t.true(small.remove('tcp 127.0.0.1:3'), 'it was not stored');
});

test('names are valid for a service manager, and tell addresses apart', (t) => {
  for (const key of ['tcp 127.0.0.1:9500', 'tcp [::1]:80', `unix /run/ä ö\n${'x'.repeat(300)} 600 -1 -1 1:2`]) {
    t.regex(storedName(key), /^listener-[A-Za-z0-9.,/_-]{1,220}$/);
  }
  t.regex(storedName('tcp 127.0.0.1:9500'), /^listener-tcp_127\.0\.0\.1_9500-[0-9a-f]{16}$/);
  t.not(storedName('unix /a_b'), storedName('unix /a b'));
});

test('a key stands for an address and its permissions, and for a unix socket as long as its file is the same', async (t) => {
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
  const accessed = (mode: number, uid = -1) => listenerKey({ path, access: { mode, uid, gid: -1 } });
  t.is(accessed(0o600), first);
  t.not(accessed(0o660), first);
  t.not(accessed(0o600, 7), first);
  renameSync(path, `${path}.old`);
  t.is(listenerKey({ path }), null);
  t.not(await bind(), first);
  writeFileSync(`${path}.file`, '');
  symlinkSync(path, `${path}.link`);
  symlinkSync('loop', `${path}.loop`);
  // A file that is not a socket, a socket bound as another file, and a dangling path.
  for (const end of ['.file', '.link', '.loop/x.sock']) t.is(listenerKey({ path: path + end }), null, end);
});

test('a successor is announced as the main process, even to a busy service manager', async (t) => {
  const { manager } = await storing(t);
  const calls = await loadMessageCalls();
  announceSuccessor(calls, manager.address, 4711, 20_000);
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
