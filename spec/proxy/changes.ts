/** Adding and removing channels and forwards at run time, and their status. */
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import { temporaryFolder } from '../helpers/files.js';
import {
  answerTo,
  ask,
  echo,
  endsInOrder,
  failureOf,
  localServer,
  localSocket,
  openEcho,
  outgoing,
  portOf,
  proxyPair,
  refusal,
  startProxy,
  type TestProxy,
} from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const isEstablished = ({ proxy }: TestProxy, label: string) =>
  eventually(() => proxy.channel(label).state === 'established');

test('channels are added and removed with their sessions and forwards; an invalid change has no effect', async (t) => {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const address = (name: string): string => `unix-connect:${join(folder, name)}`;
  const [guest] = await Promise.all(
    ['vm1', 'vm2'].map((name) =>
      startProxy(t, `unix-listen:${join(folder, name)}`, { name, incoming: [`echo:${target.port}`] }),
    ),
  );
  const host = await startProxy(t, address('vm1'), { label: 'vm1', outgoing: ['echo:0'] });
  const { proxy } = host;
  const labels = () => proxy.listChannels().map(({ label }) => label);
  await isEstablished(host, 'vm1');
  const vm2 = { label: 'vm2', address: address('vm2') };
  const taken = outgoing(`x:127.0.0.1:${host.port('echo')}`);
  for (const [options, code] of [
    [{ ...vm2, forwards: taken }, 'address-in-use'],
    [{ ...vm2, label: 'vm1' }, 'bad-argument'],
    [{ ...vm2, label: 'No Label' }, 'bad-argument'],
    [{ ...vm2, address: 'what:ever' }, 'bad-argument'],
  ] as const)
    await t.throwsAsync(proxy.addChannel(options), { code });
  t.deepEqual(labels(), ['vm1']);

  t.is((await proxy.addChannel({ ...vm2, forwards: outgoing('echo:0') })).label, 'vm2');
  await isEstablished(host, 'vm2');
  for (const name of labels()) t.is(proxy.channel(name).session?.peer.name, name);
  for (const { endpoint } of proxy.listForwards()) t.is(await ask(t, portOf(endpoint)), 'hello');
  const which = { code: 'bad-argument', message: 'missing channel label; available: vm1, vm2' };
  await t.throwsAsync(proxy.addForward(parseForwardSpec('outgoing', 'echo:0')), which);
  const stream = await proxy.connect('echo', 'vm2');
  stream.end('over vm2');
  t.is(await text(stream), 'over vm2');
  await proxy.removeChannel('vm2');
  t.true(proxy.listForwards().every(({ channel }) => channel === 'vm1'));
  await t.throwsAsync(proxy.removeChannel('vm2'), { code: 'not-found', message: /"vm2"; available: vm1/ });

  // A channel that can never work does not end the others.
  proxy.on('fatal', () => t.fail('the proxy ends'));
  await proxy.addChannel({ label: 'wrong', address: 'virtserial-open:/dev/null' });
  await eventually(() => proxy.channel('wrong').state === 'failed');
  t.regex(proxy.channel('wrong').detail ?? '', /not a virtio-serial port/);
  const failed = await host.event('channel-failed');
  t.is(failed.fields['channel'], 'wrong');
  t.regex(failed.message, /^wrong: .*, not a virtio-serial port; give the VM a virtserialport, /, 'what to do');
  t.is(proxy.channel('vm1').state, 'established');
  const established = await host.event('session-established');
  t.regex(established.message, /^vm1: session established with vm1, vproxy test on unix-connect:/);
  t.is(established.fields['channel'], 'vm1', 'each line has its channel as a fact');

  const socket = await openEcho(t, host.port('echo'));
  const removed = proxy.removeChannel('vm1');
  await eventually(() => proxy.channel('vm1').state === 'draining');
  t.true(await endsInOrder(socket));
  await removed;
  t.deepEqual(labels(), ['wrong']);
  t.is((await guest?.event('session-ended'))?.fields['code'], 'shutdown');
});

test('the status shows what a channel waits for, when it retries, and why its sessions ended', async (t) => {
  const path = join(temporaryFolder(t), 'vm.sock');
  const host = await startProxy(t, `unix-connect:${path}`);
  const status = () => host.proxy.channel('default');
  await eventually(() => status().state === 'backing-off');
  const waiting = status();
  t.regex(waiting.detail ?? '', /vm\.sock/);
  t.true((waiting.nextTryMs ?? -1) >= 0);
  t.is(waiting.session, null);

  const guest = await startProxy(t, `unix-listen:${path}`, { name: 'vm' });
  host.proxy.retryNow();
  await isEstablished(host, 'default');
  t.true((await host.proxy.ping()) > 0);
  const { session, totals, nextTryMs, detail } = status();
  const peer = { agent: 'vproxy test', name: 'vm', services: [] };
  t.like(session, { peer, protocolVersion: 1, integrity: 'frame', streams: 0 });
  t.true((session?.roundTripMs ?? 0) > 0 && totals.sentFrames > 0 && totals.receivedFrames > 0);
  t.deepEqual([nextTryMs, detail], [null, null]);

  await guest.proxy.stop();
  await eventually(() => status().history.recent.length === 1);
  t.like(status().history, { ends: { shutdown: 1 }, sessions: 1, recent: [{ code: 'shutdown' }] });
  t.true(status().totals.sentFrames >= totals.sentFrames, 'totals outlive the session');
});

test('a stream is listed with what it waits for, and can be closed', async (t) => {
  const held = await localServer(t, (socket) => void socket.pause());
  const { a, b } = await proxyPair(t, { targets: `held:${held.port}` });
  const socket = localSocket(t, a.port('held'));
  socket.write(Buffer.alloc(30_000_000));
  const [waiting, other] = await eventually(() => {
    const [here] = a.proxy.listStreams();
    const [there] = b.proxy.listStreams();
    // At rest: everything sent has arrived, and is not read.
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

// Forwards.

async function addForward({ proxy }: TestProxy, direction: 'incoming' | 'outgoing', spec: string, label?: string) {
  return proxy.addForward(parseForwardSpec(direction, spec), label);
}

async function echoPair(t: ExecutionContext) {
  const { a, b } = await proxyPair(t);
  const target = await localServer(t, echo);
  const serve = () => addForward(b, 'incoming', `echo:${target.port}`);
  const served = await serve();
  const listening = await addForward(a, 'outgoing', 'echo:0');
  return { a, b, serve, served, listening, port: portOf(listening.endpoint) };
}

test('added forwards carry streams and are listed; a draining one takes no new streams, one removed at once resets them', async (t) => {
  const { a, b, serve, served, listening, port } = await echoPair(t);
  const first = await openEcho(t, port);
  const outward = { channel: 'default', direction: 'outgoing', spec: 'echo:127.0.0.1:0', state: 'active' };
  t.like(a.proxy.listForwards(), [{ id: listening.id, service: 'echo', ...outward }]);
  t.like(b.proxy.listForwards(), [{ id: served.id, direction: 'incoming', service: 'echo', streams: 1, opened: 1 }]);
  const service = { channel: 'default', service: 'echo' };
  await eventually(() => a.proxy.listServices().length > 0);
  t.deepEqual(a.proxy.listServices(), [{ ...service, offeredBy: 'peer', forward: null }]);
  t.deepEqual(b.proxy.listServices(), [{ ...service, offeredBy: 'here', forward: served.id }]);

  const drained = b.proxy.removeForward(served.id);
  t.is(await refusal(t, port), 'ECONNRESET');
  t.regex((await a.event('stream-refused')).message, /\(unknown-service\)/);
  // By then the service is free for another forward.
  const again = await serve();
  const [second, third] = [await openEcho(t, port), await openEcho(t, port)];
  t.like(b.proxy.listForwards(), [
    { id: served.id, state: 'draining', streams: 1 },
    { id: again.id, state: 'active', streams: 2 },
  ]);
  t.is(await answerTo(first, 'more'), 'more');
  t.true(await endsInOrder(first));
  await drained;

  const removed = a.proxy.removeForward(listening.id);
  t.is(a.proxy.listForwards()[0]?.state, 'draining');
  await eventually(async () => (await refusal(t, port)) === 'ECONNREFUSED');
  t.true(await endsInOrder(second));
  const failure = failureOf(third);
  await b.proxy.removeForward(again.id, { isDraining: false });
  t.is((await failure).code, 'ECONNRESET');
  await removed;
  t.deepEqual([a.proxy.listForwards(), b.proxy.listForwards()], [[], []]);
});

test('a forward that cannot be added changes nothing, and the error names the owner of its address', async (t) => {
  const { a, b, port } = await echoPair(t);
  const folder = temporaryFolder(t);
  const [own = '', other = ''] = ['own', 'other'].map((name) => join(folder, name));
  const { id: ssh } = await addForward(a, 'outgoing', `ssh:${own}`);
  const { port: otherPort } = await localServer(t, echo);
  await localServer(t, echo, { path: other });
  // A connection to a socket tells whether it is in use.
  const listed = () =>
    [a, b].map(({ proxy }) => proxy.listForwards().map((forward) => ({ ...forward, opened: 0, offered: null })));
  const before = listed();
  for (const [endpoint, holder] of [
    [`127.0.0.1:${port}`, 'forward f1, -o echo:127.0.0.1:0'],
    // The unspecified address includes this one.
    [`0.0.0.0:${port}`, 'forward f1, -o echo:127.0.0.1:0'],
    [own, `forward ${ssh}, -o ssh:unix:${own}`],
    [`127.0.0.1:${otherPort}`, 'this process'],
    [other, 'this process'],
  ] as const) {
    const message = `cannot listen on ${endpoint}: already in use by ${holder}`;
    const refused = { instanceOf: VproxyError, code: 'address-in-use', message };
    await t.throwsAsync(addForward(a, 'outgoing', `web:${endpoint}`), refused);
  }
  const twice = { code: 'bad-argument', message: /service echo is offered/ };
  await t.throwsAsync(addForward(b, 'incoming', 'echo:9'), twice);
  await t.throwsAsync(addForward(a, 'outgoing', 'echo:0', 'nowhere'), { code: 'not-found' });
  await t.throwsAsync(a.proxy.removeForward('f99'), { code: 'not-found' });
  t.deepEqual(listed(), before);
  await openEcho(t, port);

  const forwards = outgoing(`ssh:${join(folder, 'both')}`);
  const channels = ['vm2', 'vm3'].map((label) => ({ label, address: `unix-connect:${join(folder, label)}`, forwards }));
  const byTheOther = { message: /by forward f\d+, -o vm2\/ssh:unix:.*\/both$/ };
  await t.throwsAsync(a.proxy.apply(channels), byTheOther, 'two channels of one set that want the same place');
});
