/**
 * From one set of channels to another: what is the same goes on, and a set that cannot be put in force changes nothing.
 */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import type net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import type { ChannelOptions } from '../../lib/proxy/channel-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo, failureOf, localServer, localSocket, readToEnd, TestProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const out = (...texts: string[]) => texts.map((text) => parseForwardSpec('outgoing', text));

/** A guest that offers echo and other, and a host that is changed. */
async function setUp(t: ExecutionContext, channels: (folder: string) => ChannelOptions[]) {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const incoming = [`echo:${target.port}`, `other:${target.port}`];
  for (const name of ['vm1', 'vm2'])
    await new TestProxy(t, `unix-listen:${join(folder, name)}`, { name, incoming }).start();
  const host = new Proxy({ channels: channels(folder), agent: 'vproxy test' });
  t.teardown(() => host.stop());
  await host.start();
  await host.waitFor({}, 10_000);
  return { folder, host };
}

const address = (folder: string, name: string) => `unix-connect:${join(folder, name)}`;

/** Opens a connection to the forward of a service, over which a byte has come back. */
async function openEcho(t: ExecutionContext, host: Proxy, service: string): Promise<net.Socket> {
  const { endpoint = '' } = host.listForwards().find((forward) => forward.service === service) ?? {};
  const socket = localSocket(t, { host: '127.0.0.1', port: Number(/:(\d+)$/.exec(endpoint)?.[1]) });
  const answer = once(socket, 'data');
  socket.write('x');
  await answer;
  return socket;
}

async function endsInOrder(socket: net.Socket): Promise<boolean> {
  const rest = readToEnd(socket);
  socket.end('last');
  return (await rest).toString() === 'last';
}

test('streams of unchanged forwards carry on, and so do those of removed ones until they end', async (t) => {
  const { folder, host } = await setUp(t, (at) => [
    { address: address(at, 'vm1'), forwards: out('echo:0', 'other:0') },
  ]);
  const kept = await Promise.all(Array.from({ length: 50 }, () => openEcho(t, host, 'echo')));
  const going = await openEcho(t, host, 'other');
  const [echoForward] = host.listForwards();

  const changes = await host.apply([
    { address: address(folder, 'vm1'), forwards: out('echo:0', `echo:${join(folder, 'echo.sock')}`) },
  ]);
  t.deepEqual(changes, {
    addedChannels: [],
    removedChannels: [],
    replacedChannels: [],
    addedForwards: [`-o default/echo:unix:${join(folder, 'echo.sock')}`],
    removedForwards: ['-o default/other:127.0.0.1:0'],
    changedPolicies: [],
    changedEgress: [],
  });
  t.is(host.channel('default').history.sessions, 1);
  t.like(host.listForwards()[0], { id: echoForward?.id ?? '', endpoint: echoForward?.endpoint ?? '', streams: 50 });
  t.true(await endsInOrder(going));
  for (const socket of kept) t.true(await endsInOrder(socket));
  await eventually(() => host.listForwards().length === 2);
});

test('the same set again changes nothing', async (t) => {
  const { folder, host } = await setUp(t, (at) => [{ address: address(at, 'vm1'), forwards: out('echo:0') }]);
  const before = host.listForwards();
  const changes = await host.apply([{ address: address(folder, 'vm1'), forwards: out('echo:0') }]);
  t.deepEqual(Object.values(changes).flat(), []);
  t.deepEqual(host.listForwards(), before);
});

test('channels are added, removed, and begun anew where they differ; a neighbour keeps its session', async (t) => {
  const { folder, host } = await setUp(t, (at) => [
    { label: 'vm1', address: address(at, 'vm1'), forwards: out('echo:0') },
    { label: 'old', address: address(at, 'nowhere') },
    { label: 'vm2', address: address(at, 'vm2'), name: 'a' },
  ]);
  const socket = await openEcho(t, host, 'echo');
  const changes = await host.apply([
    { label: 'vm1', address: address(folder, 'vm1'), forwards: out('echo:0') },
    { label: 'vm2', address: address(folder, 'vm2'), name: 'b', forwards: out('other:0') },
    { label: 'new', address: address(folder, 'nowhere') },
  ]);
  t.like(changes, { addedChannels: ['new'], removedChannels: ['old'], replacedChannels: ['vm2'] });
  t.deepEqual(
    host
      .listChannels()
      .map(({ label }) => label)
      .sort(),
    ['new', 'vm1', 'vm2'],
  );
  await host.waitFor({ label: 'vm2', service: 'other' }, 10_000);
  t.true(await endsInOrder(await openEcho(t, host, 'other')));
  t.true(await endsInOrder(socket));
});

test('an address moves from one forward to another, also to another channel', async (t) => {
  const { folder, host } = await setUp(t, (at) => [
    {
      label: 'vm1',
      address: address(at, 'vm1'),
      forwards: out(`echo:${join(at, 'a.sock')}`, `other:${join(at, 'b.sock')}`),
    },
    { label: 'vm2', address: address(at, 'vm2') },
  ]);
  await host.apply([
    { label: 'vm1', address: address(folder, 'vm1'), forwards: out(`other:${join(folder, 'a.sock')}`) },
    { label: 'vm2', address: address(folder, 'vm2'), forwards: out(`echo:${join(folder, 'b.sock')}`) },
  ]);
  t.deepEqual(
    host
      .listForwards()
      .filter(({ state }) => state === 'active')
      .map(({ channel, spec }) => `${channel} ${spec}`),
    [`vm1 other:unix:${join(folder, 'a.sock')}`, `vm2 echo:unix:${join(folder, 'b.sock')}`],
  );
});

test('a set of which one address is taken, or one part is not valid, changes nothing', async (t) => {
  const { folder, host } = await setUp(t, (at) => [
    { label: 'vm1', address: address(at, 'vm1'), forwards: out('echo:0', 'other:0') },
  ]);
  const socket = await openEcho(t, host, 'echo');
  const other = await openEcho(t, host, 'other');
  const taken = await localServer(t, echo);
  const before = host.listForwards();
  const vm1 = { label: 'vm1', address: address(folder, 'vm1') };
  const vm2 = { label: 'vm2', address: address(folder, 'vm2') };
  const free = `x:${join(folder, 'free.sock')}`;
  const bad: [ChannelOptions[], string][] = [
    [[{ ...vm1, forwards: out('echo:0', free, `y:${taken.port}`) }, vm2], 'address-in-use'],
    [
      [
        { ...vm1, name: 'another' },
        { ...vm2, forwards: out(free, `y:${taken.port}`) },
      ],
      'address-in-use',
    ],
    [[vm2, { label: 'vm3', address: `unix-listen:${join(folder, 'vm1')}` }], 'address-in-use'],
    [[vm1, { ...vm2, address: 'what:ever' }], 'bad-argument'],
    [[vm1, vm2, vm2], 'bad-argument'],
    [
      [{ ...vm1, forwards: [parseForwardSpec('incoming', 'a:1'), parseForwardSpec('incoming', 'a:2')] }],
      'bad-argument',
    ],
  ];
  for (const [channels, code] of bad) {
    await t.throwsAsync(host.apply(channels), { code });
    t.deepEqual(host.listForwards(), before);
    t.deepEqual(
      host.listChannels().map(({ label }) => label),
      ['vm1'],
    );
    t.is((await failureOf(localSocket(t, { path: join(folder, 'free.sock') }))).code, 'ENOENT');
  }
  t.true(await endsInOrder(await openEcho(t, host, 'other')));
  for (const open of [socket, other]) t.true(await endsInOrder(open));
  t.is(host.channel('vm1').history.sessions, 1);
});

test('what was added while it ran stays', async (t) => {
  const { folder, host } = await setUp(t, (at) => [
    { label: 'vm1', address: address(at, 'vm1'), forwards: out('echo:0') },
  ]);
  await host.addForward(out('other:0')[0] ?? t.fail(), 'vm1');
  await host.addChannel({ label: 'vm2', address: address(folder, 'vm2') });
  await host.apply([{ label: 'vm1', address: address(folder, 'vm1') }]);
  t.deepEqual(
    host.listChannels().map(({ label }) => label),
    ['vm1', 'vm2'],
  );
  await eventually(() => host.listForwards().length === 1);
  t.is(host.listForwards()[0]?.service, 'other');
});

test('a channel is removed as a reload that is under way leaves it', async (t) => {
  const { folder, host } = await setUp(t, (at) => [{ address: address(at, 'vm1'), forwards: out('echo:0') }]);
  const path = join(folder, 'other.sock');
  const wanted = [
    { address: address(folder, 'vm1'), forwards: out('echo:0', `other:${path}`) },
    { label: 'vm2', address: address(folder, 'vm2') },
  ];
  const applied = host.apply(wanted);
  const removed = ['default', 'vm2'].map((label) => host.removeChannel(label, { isDraining: false }));
  t.like(await applied, { addedChannels: ['vm2'], addedForwards: [`-o default/other:unix:${path}`] });
  await Promise.all(removed);
  t.deepEqual(host.listChannels(), []);
  t.false(existsSync(path), 'nothing of it listens any more');
});

test('a channel that drains holds no other change up, and takes no other one in its place along', async (t) => {
  const { folder, host } = await setUp(t, (at) => [{ address: address(at, 'vm1'), forwards: out('echo:0') }]);
  const failed = failureOf(await openEcho(t, host, 'echo'));
  const removed = host.removeChannel('default');
  await eventually(() => host.channel('default').state === 'draining');
  t.is((await host.addChannel({ label: 'vm2', address: address(folder, 'vm2') })).label, 'vm2');
  t.deepEqual((await host.apply([{ address: address(folder, 'nobody') }])).replacedChannels, ['default']);
  await failed;
  await removed;
  t.deepEqual(
    host.listChannels().map(({ label, address: text }) => [label, text]),
    [
      ['vm2', address(folder, 'vm2')],
      ['default', address(folder, 'nobody')],
    ],
  );
});
