/** From one set of channels to another: what is the same goes on. */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { ChannelOptions } from '../../lib/proxy/channel-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { temporaryFolder } from '../helpers/files.js';
import {
  echo,
  endsInOrder,
  failureOf,
  localServer,
  openEcho,
  outgoing,
  portOf,
  startProxy,
} from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

/** A guest that offers echo and other, and a host that is changed; `channel` gives the options of one. */
async function setUp(t: ExecutionContext, channels: (channel: ReturnType<typeof channelIn>) => ChannelOptions[]) {
  const folder = temporaryFolder(t);
  const target = await localServer(t, echo);
  const incoming = [`echo:${target.port}`, `other:${target.port}`];
  for (const name of ['vm1', 'vm2']) await startProxy(t, `unix-listen:${join(folder, name)}`, { name, incoming });
  const channel = channelIn(folder);
  const host = new Proxy({ channels: channels(channel), agent: 'vproxy test' });
  t.teardown(() => host.stop());
  await host.start();
  await host.waitFor({}, 30_000);
  const open = (service: string) =>
    openEcho(t, portOf(host.listForwards().find((forward) => forward.service === service)?.endpoint ?? ''));
  const labels = () => host.listChannels().map(({ label }) => label);
  return { at: (name: string) => join(folder, name), channel, host, open, labels };
}

/** A channel to a socket of a folder, with forwards that listen here. */
const channelIn =
  (folder: string) =>
  (label: string, forwards: readonly string[] = [], more: Partial<ChannelOptions> = {}): ChannelOptions => {
    const texts = forwards.map((text) => text.replace('FOLDER', folder));
    return { label, address: `unix-connect:${join(folder, label)}`, forwards: outgoing(...texts), ...more };
  };

test('streams of unchanged forwards carry on, and so do those of removed ones until they end', async (t) => {
  const { at, channel, host, open } = await setUp(t, (make) => [make('vm1', ['echo:0', 'other:0'])]);
  const kept = await Promise.all(Array.from({ length: 50 }, () => open('echo')));
  const going = await open('other');
  const before = host.listForwards();
  const same = await host.apply([channel('vm1', ['echo:0', 'other:0'])]);
  t.deepEqual(Object.values(same).flat(), []);
  t.deepEqual(host.listForwards(), before);

  t.deepEqual(await host.apply([channel('vm1', ['echo:0', 'echo:FOLDER/echo.sock'])]), {
    addedChannels: [],
    removedChannels: [],
    replacedChannels: [],
    addedForwards: [`-o vm1/echo:unix:${at('echo.sock')}`],
    removedForwards: ['-o vm1/other:127.0.0.1:0'],
    changedPolicies: [],
    changedEgress: [],
  });
  t.is(host.channel('vm1').history.sessions, 1);
  t.like(host.listForwards()[0], { id: before[0]?.id ?? '', endpoint: before[0]?.endpoint ?? '', streams: 50 });
  t.true(await endsInOrder(going));
  for (const socket of kept) t.true(await endsInOrder(socket));
  await eventually(() => host.listForwards().length === 2);
});

test('channels are added, removed, and begun anew where they differ; a neighbour keeps its session', async (t) => {
  const { channel, host, open, labels } = await setUp(t, (make) => [
    make('vm1', ['echo:0']),
    make('old'),
    make('vm2', [], { name: 'a' }),
  ]);
  const socket = await open('echo');
  const changes = await host.apply([
    channel('vm1', ['echo:0']),
    channel('vm2', ['other:0'], { name: 'b' }),
    channel('new'),
  ]);
  t.like(changes, { addedChannels: ['new'], removedChannels: ['old'], replacedChannels: ['vm2'] });
  t.deepEqual(labels().sort(), ['new', 'vm1', 'vm2']);
  await host.waitFor({ label: 'vm2', service: 'other' }, 30_000);
  t.true(await endsInOrder(await open('other')));
  t.true(await endsInOrder(socket));
});

test('an address moves from one forward to another, also to another channel', async (t) => {
  const { at, channel, host } = await setUp(t, (make) => [
    make('vm1', ['echo:FOLDER/a.sock', 'other:FOLDER/b.sock']),
    make('vm2'),
  ]);
  await host.apply([channel('vm1', ['other:FOLDER/a.sock']), channel('vm2', ['echo:FOLDER/b.sock'])]);
  t.deepEqual(
    host
      .listForwards()
      .filter(({ state }) => state === 'active')
      .map((forward) => `${forward.channel} ${forward.spec}`),
    [`vm1 other:unix:${at('a.sock')}`, `vm2 echo:unix:${at('b.sock')}`],
  );
});

test('what was added while it ran stays', async (t) => {
  const { channel, host, labels } = await setUp(t, (make) => [make('vm1', ['echo:0'])]);
  for (const spec of outgoing('other:0')) await host.addForward(spec, 'vm1');
  await host.addChannel(channel('vm2'));
  await host.apply([channel('vm1')]);
  t.deepEqual(labels(), ['vm1', 'vm2']);
  await eventually(() => host.listForwards().length === 1);
  t.is(host.listForwards()[0]?.service, 'other');
});

test('a channel is removed as a reload that is under way leaves it', async (t) => {
  const { at, channel, host, labels } = await setUp(t, (make) => [make('vm1', ['echo:0'])]);
  const applied = host.apply([channel('vm1', ['echo:0', 'other:FOLDER/other.sock']), channel('vm2')]);
  const removed = ['vm1', 'vm2'].map((label) => host.removeChannel(label, { isDraining: false }));
  t.like(await applied, { addedChannels: ['vm2'], addedForwards: [`-o vm1/other:unix:${at('other.sock')}`] });
  await Promise.all(removed);
  t.deepEqual(labels(), []);
  t.false(existsSync(at('other.sock')), 'nothing of it listens any more');
});

test('a channel that drains holds no other change up, and takes no other one in its place along', async (t) => {
  const { channel, host, open } = await setUp(t, (make) => [make('vm1', ['echo:0'])]);
  const failed = failureOf(await open('echo'));
  const removed = host.removeChannel('vm1');
  await eventually(() => host.channel('vm1').state === 'draining');
  t.is((await host.addChannel(channel('vm2'))).label, 'vm2');
  const { address } = channel('nobody');
  t.deepEqual((await host.apply([{ label: 'vm1', address }])).replacedChannels, ['vm1']);
  await failed;
  await removed;
  t.deepEqual(
    host.listChannels().map((status) => [status.label, status.address]),
    [
      ['vm2', channel('vm2').address],
      ['vm1', address],
    ],
  );
});
