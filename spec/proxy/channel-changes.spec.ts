/** Channels that come and go while a proxy runs, and its status of them. */
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { temporaryFolder } from '../helpers/files.js';
import {
  connectedProxies,
  echo,
  failureOf,
  localServer,
  localSocket,
  readToEnd,
  TestProxy,
} from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const LOOPBACK = '127.0.0.1';

const isEstablished = ({ proxy }: TestProxy, label: string) =>
  eventually(() => proxy.channel(label).state === 'established');

/** A host with a channel to each of two guests, of which each offers an echo under the same name. */
async function hostWithGuests(t: ExecutionContext) {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const guests = ['vm1', 'vm2'].map(
    (name) =>
      new TestProxy(t, `unix-listen:${join(folder, `${name}.sock`)}`, { name, incoming: [`echo:${target.port}`] }),
  );
  for (const guest of guests) await guest.start();
  const host = new TestProxy(t, `unix-connect:${join(folder, 'vm1.sock')}`, { label: 'vm1', outgoing: ['echo:0'] });
  await host.start();
  await isEstablished(host, 'vm1');
  return { folder, host, guests };
}

async function echoThrough(t: ExecutionContext, endpoint: string): Promise<string> {
  const socket = localSocket(t, { host: LOOPBACK, port: Number(/:(\d+)$/.exec(endpoint)?.[1]) });
  const answer = readToEnd(socket);
  socket.end('hello');
  return (await answer).toString();
}

test('a channel that is added gets its own session and forwards, and goes with them', async (t) => {
  const { folder, host } = await hostWithGuests(t);
  const added = await host.proxy.addChannel({
    label: 'vm2',
    address: `unix-connect:${join(folder, 'vm2.sock')}`,
    forwards: [parseForwardSpec('outgoing', 'echo:0')],
  });
  t.is(added.label, 'vm2');
  await isEstablished(host, 'vm2');
  t.deepEqual(
    host.proxy.listChannels().map(({ label, session }) => [label, session?.peer.name]),
    [
      ['vm1', 'vm1'],
      ['vm2', 'vm2'],
    ],
  );
  for (const { endpoint } of host.proxy.listForwards()) t.is(await echoThrough(t, endpoint), 'hello');
  await host.proxy.removeChannel('vm2');
  t.deepEqual(
    host.proxy.listChannels().map(({ label }) => label),
    ['vm1'],
  );
  t.deepEqual(
    host.proxy.listForwards().map(({ channel }) => channel),
    ['vm1'],
  );
  await t.throwsAsync(host.proxy.removeChannel('vm2'), { code: 'not-found', message: /vm2; there are: vm1/ });
});

test('a channel that is removed with a drain lets its streams finish', async (t) => {
  const { host, guests } = await hostWithGuests(t);
  const [forward] = host.proxy.listForwards();
  const socket = localSocket(t, { host: LOOPBACK, port: Number(/:(\d+)$/.exec(forward?.endpoint ?? '')?.[1]) });
  const first = once(socket, 'data');
  socket.write('x');
  await first;
  const removed = host.proxy.removeChannel('vm1');
  await eventually(() => host.proxy.channel('vm1').state === 'draining');
  const rest = readToEnd(socket);
  socket.end('last');
  t.is((await rest).toString(), 'last');
  await removed;
  t.deepEqual(host.proxy.listChannels(), []);
  t.is((await guests[0]?.event('session-ended'))?.fields['code'], 'shutdown');
});

test('a channel that cannot be added changes nothing', async (t) => {
  const { folder, host } = await hostWithGuests(t);
  const [taken] = host.proxy.listForwards();
  const address = `unix-connect:${join(folder, 'vm2.sock')}`;
  const forwards = [parseForwardSpec('outgoing', `x:${taken?.endpoint}`)];
  await t.throwsAsync(host.proxy.addChannel({ label: 'vm2', address, forwards }), { code: 'address-in-use' });
  await t.throwsAsync(host.proxy.addChannel({ label: 'vm1', address }), {
    code: 'bad-argument',
    message: /vm1 is there already/,
  });
  await t.throwsAsync(host.proxy.addChannel({ label: 'No Label', address }), { code: 'bad-argument' });
  await t.throwsAsync(host.proxy.addChannel({ label: 'vm2', address: 'what:ever' }), { code: 'bad-argument' });
  t.deepEqual(
    host.proxy.listChannels().map(({ label }) => label),
    ['vm1'],
  );
});

test('where there are several channels, what concerns one has to name it', async (t) => {
  const { folder, host } = await hostWithGuests(t);
  await host.proxy.addChannel({ label: 'vm2', address: `unix-connect:${join(folder, 'vm2.sock')}` });
  await t.throwsAsync(host.proxy.addForward(parseForwardSpec('outgoing', 'echo:0')), {
    code: 'bad-argument',
    message: 'which channel? There are: vm1, vm2',
  });
  await isEstablished(host, 'vm2');
  const stream = await host.proxy.connect('echo', 'vm2');
  stream.end('over vm2');
  t.is(await text(stream), 'over vm2');
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

test('lines of the log about a channel with a label begin with it, and have it as a fact', async (t) => {
  const { host } = await hostWithGuests(t);
  const { message, fields } = await host.event('session-established');
  t.regex(message, /^vm1: session with vm1, vproxy test on unix-connect:/);
  t.is(fields['channel'], 'vm1');
  t.true(host.events.every((event) => event.fields['channel'] === 'vm1'));
});

test('the status tells what a channel waits for, when it tries again, and why its sessions ended', async (t) => {
  const folder = temporaryFolder(t);
  const path = join(folder, 'vm.sock');
  const host = new TestProxy(t, `unix-connect:${path}`);
  await host.start();
  const waiting = await eventually(() => {
    const status = host.proxy.channel('default');
    return status.state === 'backing-off' && status;
  });
  t.regex(waiting.detail ?? '', /vm\.sock/);
  t.true((waiting.nextTryMs ?? -1) >= 0);
  t.is(waiting.session, null);

  const guest = new TestProxy(t, `unix-listen:${path}`, { name: 'vm' });
  await guest.start();
  host.proxy.retryNow();
  await isEstablished(host, 'default');
  t.true((await host.proxy.ping()) > 0);
  const { session, totals, nextTryMs, detail } = host.proxy.channel('default');
  t.like(session, {
    peer: { agent: 'vproxy test', name: 'vm', services: [] },
    protocolVersion: 1,
    integrity: 'frame',
    streams: 0,
  });
  t.true((session?.roundTripMs ?? 0) > 0);
  t.true(totals.sentFrames > 0 && totals.receivedFrames > 0);
  t.deepEqual([nextTryMs, detail], [null, null]);

  await guest.proxy.stop();
  const ended = await eventually(() => {
    const status = host.proxy.channel('default');
    return status.history.recent.length === 1 && status;
  });
  t.deepEqual(ended.history.ends, { shutdown: 1 });
  t.is(ended.history.sessions, 1);
  t.like(ended.history.recent[0], { code: 'shutdown' });
  t.true(ended.totals.sentFrames >= totals.sentFrames, 'totals outlive the session');
});

test('a stream is listed with whom it waits for', async (t) => {
  const path = join(temporaryFolder(t), 'channel.sock');
  const held = await localServer(t, (socket) => void socket.pause());
  const { a, b } = await connectedProxies(t, path, { outgoing: ['held:0'] }, { incoming: [`held:${held.port}`] });
  const socket = localSocket(t, { host: LOOPBACK, port: a.port('held') });
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
  t.is(waiting.from?.startsWith(`${LOOPBACK}:`), true);
  t.like(other, { id: waiting.id, direction: 'incoming' });

  a.proxy.closeStream('default', waiting.id);
  t.is((await failureOf(socket)).code, 'ECONNRESET');
  await eventually(() => b.proxy.listStreams().length === 0);
  t.throws(() => a.proxy.closeStream('default', waiting.id), { code: 'not-found' });
});

test('who waits for a service gets it as soon as it is offered, and not before', async (t) => {
  const { a, b } = await connectedProxies(t, join(temporaryFolder(t), 'channel.sock'), {}, {});
  t.is((await a.proxy.waitFor({}, 1000)).state, 'established');
  await t.throwsAsync(a.proxy.waitFor({ service: 'echo' }, 10), { code: 'no-session', message: /service echo/ });
  const found = a.proxy.waitFor({ service: 'echo', label: 'default' }, 10_000);
  await b.proxy.addForward(parseForwardSpec('incoming', 'echo:9'));
  t.deepEqual((await found).session?.peer.services, ['echo']);
  await t.throwsAsync(a.proxy.waitFor({ label: 'other' }, 10_000), { code: 'not-found' });
});
