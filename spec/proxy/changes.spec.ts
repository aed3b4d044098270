/** Channels and forwards that come and go while a proxy runs, and its status of them. */
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { temporaryFolder } from '../helpers/files.js';
import {
  answerTo,
  ask,
  connectedProxies,
  echo,
  endsInOrder,
  failureOf,
  localServer,
  localSocket,
  openEcho,
  outgoing,
  portOf,
  refusal,
  startProxy,
  type TestProxy,
} from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const isEstablished = ({ proxy }: TestProxy, label: string) =>
  eventually(() => proxy.channel(label).state === 'established');

const labels = ({ proxy }: TestProxy): string[] => proxy.listChannels().map(({ label }) => label);

/** A host with a channel to one of two guests, each of which offers an echo under the same name. */
async function hostWithGuests(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const address = (name: string): string => `unix-connect:${join(folder, name)}`;
  const [guest] = await Promise.all(
    ['vm1', 'vm2'].map((name) =>
      startProxy(t, `unix-listen:${join(folder, name)}`, { name, incoming: [`echo:${target.port}`] }),
    ),
  );
  const host = await startProxy(t, address('vm1'), { label: 'vm1', outgoing: ['echo:0'] });
  await isEstablished(host, 'vm1');
  return { address, host, guest };
}

test('a channel that is added gets its own session and forwards, and goes with them', async (t) => {
  const { address, host } = await hostWithGuests(t);
  const { proxy } = host;
  const added = await proxy.addChannel({ label: 'vm2', address: address('vm2'), forwards: outgoing('echo:0') });
  t.is(added.label, 'vm2');
  await isEstablished(host, 'vm2');
  for (const name of labels(host)) t.is(proxy.channel(name).session?.peer.name, name);
  for (const { endpoint } of proxy.listForwards()) t.is(await ask(t, portOf(endpoint)), 'hello');
  await t.throwsAsync(proxy.addForward(parseForwardSpec('outgoing', 'echo:0')), {
    code: 'bad-argument',
    message: 'which channel? There are: vm1, vm2',
  });
  const stream = await proxy.connect('echo', 'vm2');
  stream.end('over vm2');
  t.is(await text(stream), 'over vm2');

  await proxy.removeChannel('vm2');
  t.deepEqual(labels(host), ['vm1']);
  t.true(proxy.listForwards().every(({ channel }) => channel === 'vm1'));
  await t.throwsAsync(proxy.removeChannel('vm2'), { code: 'not-found', message: /vm2; there are: vm1/ });
});

test('a channel that is removed with a drain lets its streams finish', async (t) => {
  const { host, guest } = await hostWithGuests(t);
  const socket = await openEcho(t, host.port('echo'));
  const removed = host.proxy.removeChannel('vm1');
  await eventually(() => host.proxy.channel('vm1').state === 'draining');
  t.true(await endsInOrder(socket));
  await removed;
  t.deepEqual(labels(host), []);
  t.is((await guest?.event('session-ended'))?.fields['code'], 'shutdown');
});

test('a channel that cannot be added changes nothing', async (t) => {
  const { address, host } = await hostWithGuests(t);
  const vm2 = { label: 'vm2', address: address('vm2') };
  const taken = outgoing(`x:127.0.0.1:${host.port('echo')}`);
  for (const [options, code] of [
    [{ ...vm2, forwards: taken }, 'address-in-use'],
    [{ ...vm2, label: 'vm1' }, 'bad-argument'],
    [{ ...vm2, label: 'No Label' }, 'bad-argument'],
    [{ ...vm2, address: 'what:ever' }, 'bad-argument'],
  ] as const) {
    await t.throwsAsync(host.proxy.addChannel(options), { code });
  }
  t.deepEqual(labels(host), ['vm1']);
});

test('one channel that can never work does not end the others, and says why', async (t) => {
  const { host } = await hostWithGuests(t);
  let fatalCount = 0;
  host.proxy.on('fatal', () => (fatalCount += 1));
  await host.proxy.addChannel({ label: 'wrong', address: 'virtserial-open:/dev/null' });
  await eventually(() => host.proxy.channel('wrong').state === 'failed');
  t.regex(host.proxy.channel('wrong').detail ?? '', /not a virtio-serial port/);
  t.is((await host.event('channel-failed')).fields['channel'], 'wrong');
  t.is(fatalCount, 0);
  t.is(host.proxy.channel('vm1').state, 'established');
});

test('the status tells what a channel waits for, when it tries again, and why its sessions ended', async (t) => {
  const path = join(temporaryFolder(t), 'vm.sock');
  const host = await startProxy(t, `unix-connect:${path}`);
  const waiting = await eventually(() => {
    const status = host.proxy.channel('default');
    return status.state === 'backing-off' && status;
  });
  t.regex(waiting.detail ?? '', /vm\.sock/);
  t.true((waiting.nextTryMs ?? -1) >= 0);
  t.is(waiting.session, null);

  const guest = await startProxy(t, `unix-listen:${path}`, { name: 'vm' });
  host.proxy.retryNow();
  await isEstablished(host, 'default');
  t.true((await host.proxy.ping()) > 0);
  const { session, totals, nextTryMs, detail } = host.proxy.channel('default');
  const peer = { agent: 'vproxy test', name: 'vm', services: [] };
  t.like(session, { peer, protocolVersion: 1, integrity: 'frame', streams: 0 });
  t.true((session?.roundTripMs ?? 0) > 0);
  t.true(totals.sentFrames > 0 && totals.receivedFrames > 0);
  t.deepEqual([nextTryMs, detail], [null, null]);

  await guest.proxy.stop();
  const { history, totals: later } = await eventually(() => {
    const status = host.proxy.channel('default');
    return status.history.recent.length === 1 && status;
  });
  t.like(history, { ends: { shutdown: 1 }, sessions: 1 });
  t.like(history.recent[0], { code: 'shutdown' });
  t.true(later.sentFrames >= totals.sentFrames, 'totals outlive the session');
});

const plainPair = (t: ExecutionContext, here = {}, there = {}) =>
  connectedProxies(t, join(temporaryFolder(t), 'channel.sock'), here, there);

test('a stream is listed with whom it waits for', async (t) => {
  const held = await localServer(t, (socket) => void socket.pause());
  const { a, b } = await plainPair(t, { outgoing: ['held:0'] }, { incoming: [`held:${held.port}`] });
  const socket = localSocket(t, a.port('held'));
  socket.write(Buffer.alloc(30_000_000));
  const [waiting, other] = await eventually(() => {
    const [here] = a.proxy.listStreams();
    const [there] = b.proxy.listStreams();
    // At rest: all that was sent has come, and is not read.
    const isAtRest = here?.waitsFor === 'peer' && there?.waitsFor === 'local';
    return isAtRest && there.receivedBytes === here.sentBytes && ([here, there] as const);
  });
  t.like(waiting, { channel: 'default', service: 'held', direction: 'outgoing', forward: 'f1', sendCreditBytes: 0 });
  t.true(waiting.sentBytes > 0 && waiting.ageMs >= 0);
  t.true(waiting.from?.startsWith('127.0.0.1:'));
  t.like(other, { id: waiting.id, direction: 'incoming' });

  a.proxy.closeStream('default', waiting.id);
  t.is((await failureOf(socket)).code, 'ECONNRESET');
  await eventually(() => b.proxy.listStreams().length === 0);
  t.throws(() => a.proxy.closeStream('default', waiting.id), { code: 'not-found' });
});

test('who waits for a service gets it as soon as it is offered, and not before', async (t) => {
  const { a, b } = await plainPair(t);
  t.is((await a.proxy.waitFor({}, 30_000)).state, 'established');
  await t.throwsAsync(a.proxy.waitFor({ service: 'echo' }, 10), { code: 'no-session', message: /service echo/ });
  const found = a.proxy.waitFor({ service: 'echo', label: 'default' }, 30_000);
  await b.proxy.addForward(parseForwardSpec('incoming', 'echo:9'));
  t.deepEqual((await found).session?.peer.services, ['echo']);
  await t.throwsAsync(a.proxy.waitFor({ label: 'other' }, 30_000), { code: 'not-found' });
});

// Forwards.

async function addForward({ proxy }: TestProxy, direction: 'incoming' | 'outgoing', spec: string, label?: string) {
  return proxy.addForward(parseForwardSpec(direction, spec), label);
}

async function echoPair(t: ExecutionContext) {
  const { a, b } = await plainPair(t);
  const target = await localServer(t, echo);
  const served = await addForward(b, 'incoming', `echo:${target.port}`);
  const listening = await addForward(a, 'outgoing', 'echo:0');
  return { a, b, target, served, listening, port: portOf(listening.endpoint) };
}

test('forwards that are added on both sides while a session is there carry streams, and are listed', async (t) => {
  const { a, b, served, listening, port } = await echoPair(t);
  await openEcho(t, port);
  const outward = { channel: 'default', direction: 'outgoing', spec: 'echo:127.0.0.1:0', state: 'active' };
  t.like(a.proxy.listForwards(), [{ id: listening.id, service: 'echo', ...outward }]);
  t.like(b.proxy.listForwards(), [{ id: served.id, direction: 'incoming', service: 'echo', streams: 1, opened: 1 }]);
  await eventually(() => a.proxy.listServices().some(({ offeredBy }) => offeredBy === 'peer'));
  t.deepEqual(a.proxy.listServices(), [{ channel: 'default', service: 'echo', offeredBy: 'peer', forward: null }]);
  t.deepEqual(b.proxy.listServices(), [{ channel: 'default', service: 'echo', offeredBy: 'here', forward: served.id }]);
});

for (const direction of ['outgoing', 'incoming'] as const) {
  test(`an ${direction} forward that is removed with a drain takes no new streams, and its open ones end in order`, async (t) => {
    const { a, b, served, listening, port } = await echoPair(t);
    const socket = await openEcho(t, port);
    const { proxy } = direction === 'outgoing' ? a : b;
    const removed = proxy.removeForward((direction === 'outgoing' ? listening : served).id);
    t.is(proxy.listForwards()[0]?.state, 'draining');
    if (direction === 'outgoing') {
      await eventually(async () => (await refusal(t, port)) === 'ECONNREFUSED');
    } else {
      t.is(await refusal(t, port), 'ECONNRESET');
      t.regex((await a.event('stream-refused')).message, /\(unknown-service\)/);
    }
    t.is(await answerTo(socket, 'more'), 'more');
    t.true(await endsInOrder(socket));
    await removed;
    t.deepEqual(proxy.listForwards(), []);
  });
}

test('a forward that is removed at once resets what is open', async (t) => {
  const { b, served, port } = await echoPair(t);
  const failures = [await openEcho(t, port), await openEcho(t, port)].map(failureOf);
  await b.proxy.removeForward(served.id, { isDraining: false });
  for (const failure of failures) t.is((await failure).code, 'ECONNRESET');
  t.deepEqual(b.proxy.listForwards(), []);
});

test('a service may be offered again once the forward that had it drains', async (t) => {
  const { b, served, port, target } = await echoPair(t);
  const old = await openEcho(t, port);
  const removed = b.proxy.removeForward(served.id);
  const again = await addForward(b, 'incoming', `echo:${target.port}`);
  await openEcho(t, port);
  t.deepEqual(
    b.proxy.listForwards().map(({ id, state, streams }) => [id, state, streams]),
    [
      [served.id, 'draining', 1],
      [again.id, 'active', 1],
    ],
  );
  old.destroy();
  await removed;
  t.is(b.proxy.listForwards().length, 1);
});

test('a forward that cannot be added changes nothing, and the error says who has its address', async (t) => {
  const { a, b, port } = await echoPair(t);
  const folder = temporaryFolder(t);
  const paths = ['own', 'other'].map((name) => join(folder, name));
  const { id: ssh } = await addForward(a, 'outgoing', `ssh:${paths[0]}`);
  const other = await localServer(t, echo);
  await localServer(t, echo, { path: paths[1] });
  // Whether a socket is taken is found out by connecting to it.
  const listed = () => [a, b].map(({ proxy }) => proxy.listForwards().map((forward) => ({ ...forward, opened: 0 })));
  const before = listed();
  const own = 'forward f1, -o echo:127.0.0.1:0';
  for (const [endpoint, holder] of [
    [`127.0.0.1:${port}`, own],
    // The unspecified address includes this one.
    [`0.0.0.0:${port}`, own],
    [paths[0], `forward ${ssh}, -o ssh:unix:${paths[0]}`],
    [`127.0.0.1:${other.port}`, 'this process'],
    [paths[1], 'this process'],
  ] as const) {
    await t.throwsAsync(addForward(a, 'outgoing', `web:${endpoint}`), {
      instanceOf: VproxyError,
      code: 'address-in-use',
      message: `cannot listen on ${endpoint}: it is taken by ${holder}`,
    });
  }
  const twice = { code: 'bad-argument', message: /service echo is offered/ };
  await t.throwsAsync(addForward(b, 'incoming', 'echo:9'), twice);
  await t.throwsAsync(addForward(a, 'outgoing', 'echo:0', 'nowhere'), { code: 'not-found' });
  await t.throwsAsync(a.proxy.removeForward('f99'), { code: 'not-found' });
  t.deepEqual(listed(), before);
  await openEcho(t, port);
});

/** A program that connects to a forward and waits; it may be reset when the test ends. */
async function waitingProgram(t: ExecutionContext, port: number): Promise<void> {
  const socket = localSocket(t, port).on('error', () => undefined);
  await once(socket, 'connect');
}

for (const isDraining of [true, false]) {
  test(`a forward that ${isDraining ? 'drains' : 'was removed'} is not said to have the port that it had`, async (t) => {
    const host = await startProxy(t, `unix-connect:${join(temporaryFolder(t), 'vm1')}`);
    const { id, endpoint } = await addForward(host, 'outgoing', 'ssh:0');
    await waitingProgram(t, portOf(endpoint));
    const removed = host.proxy.removeForward(id, { isDraining });
    if (!isDraining) await removed;
    await localServer(t, echo, { host: '127.0.0.1', port: portOf(endpoint) });
    const attempt = addForward(host, 'outgoing', `web:${endpoint}`);
    await t.throwsAsync(attempt, { message: /it is taken by this process$/ });
    await host.proxy.stop();
    await removed;
  });
}

test('two channels of one set that want the same port', async (t) => {
  const folder = temporaryFolder(t);
  const proxy = new Proxy({ channels: [], agent: 'test' });
  t.teardown(() => proxy.stop());
  await proxy.start();
  const path = join(folder, 'ssh.sock');
  const forwards = outgoing(`ssh:${path}`);
  const channels = ['vm2', 'vm3'].map((label) => ({ label, address: `unix-connect:${join(folder, label)}`, forwards }));
  await t.throwsAsync(proxy.apply(channels), { message: /by forward f\d+, -o vm2\/ssh:unix:.*\/ssh\.sock$/ });
  t.deepEqual(proxy.listChannels(), []);
});

test('lines of the log about a channel with a label begin with it, and have it as a fact', async (t) => {
  const { host } = await hostWithGuests(t);
  const { message, fields } = await host.event('session-established');
  t.regex(message, /^vm1: session with vm1, vproxy test on unix-connect:/);
  t.is(fields['channel'], 'vm1');
  t.true(host.events.every((event) => event.fields['channel'] === 'vm1'));
});
