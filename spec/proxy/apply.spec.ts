/** From one set of channels to another: what is the same goes on; and a set that cannot be put in force, whichever step fails, leaves nothing. */

import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { toVproxyError } from '../../lib/errors.js';
import type { ChannelOptions } from '../../lib/proxy/channel-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { type Clock, systemClock } from '../../lib/util/clock.js';
import { temporaryFolder } from '../helpers/files.js';
import {
  ask,
  echo,
  endsInOrder,
  failureOf,
  incoming,
  localServer,
  localSocket,
  openEcho,
  outgoing,
  portOf,
  readToEnd,
  startProxy,
} from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** A guest that offers echo and other, and a host that is changed; `channel` gives the options of one. */
async function setUpGuests(t: ExecutionContext, channels: (channel: ReturnType<typeof channelIn>) => ChannelOptions[]) {
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

const channelIn =
  (folder: string) =>
  (label: string, forwards: readonly string[] = [], more: Partial<ChannelOptions> = {}): ChannelOptions => {
    const texts = forwards.map((text) => text.replace('FOLDER', folder));
    return { label, address: `unix-connect:${join(folder, label)}`, forwards: outgoing(...texts), ...more };
  };

test('streams of unchanged forwards carry on, and so do those of removed ones until they end', async (t) => {
  const { at, channel, host, open } = await setUpGuests(t, (make) => [make('vm1', ['echo:0', 'other:0'])]);
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
  const { channel, host, open, labels } = await setUpGuests(t, (make) => [
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
  const { at, channel, host } = await setUpGuests(t, (make) => [
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
  const { channel, host, labels } = await setUpGuests(t, (make) => [make('vm1', ['echo:0'])]);
  for (const spec of outgoing('other:0')) await host.addForward(spec, 'vm1');
  await host.addChannel(channel('vm2'));
  await host.apply([channel('vm1')]);
  t.deepEqual(labels(), ['vm1', 'vm2']);
  await eventually(() => host.listForwards().length === 1);
  t.is(host.listForwards()[0]?.service, 'other');
});

test('a channel is removed as a reload that is under way leaves it', async (t) => {
  const { at, channel, host, labels } = await setUpGuests(t, (make) => [make('vm1', ['echo:0'])]);
  const applied = host.apply([channel('vm1', ['echo:0', 'other:FOLDER/other.sock']), channel('vm2')]);
  const removed = ['vm1', 'vm2'].map((label) => host.removeChannel(label, { isDraining: false }));
  t.like(await applied, { addedChannels: ['vm2'], addedForwards: [`-o vm1/other:unix:${at('other.sock')}`] });
  await Promise.all(removed);
  t.deepEqual(labels(), []);
  t.false(existsSync(at('other.sock')), 'nothing of it listens any more');
});

test('a channel that drains holds no other change up, and takes no other one in its place along', async (t) => {
  const { channel, host, open } = await setUpGuests(t, (make) => [make('vm1', ['echo:0'])]);
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

// Failures.

/**
 * A host with channels that are kept, changed, added and removed, and a second set of channels in which nothing is
 * wrong.
 */
interface Setup {
  readonly host: Proxy;
  /** Gives the path of a name in the folder of the test. */
  readonly at: (name: string) => string;
  /** Replaces the channels of the second set that have these labels. */
  readonly wanted: (changes?: Readonly<Record<string, Partial<ChannelOptions>>>) => ChannelOptions[];
}

const OLD = ['kept', 'old-1', 'old-2', 'old-3', 'old-4', 'vm5'];

/** The forwards that listen in the second set only. */
const NEW = ['new-1', 'new-2', 'new-3', 'new-storage', 'new-4', 'new-channel', 'new-vm5/echo'];

const out = (...paths: string[]) => outgoing(...paths.map((path) => `echo:unix:${path}`));

async function setUp(t: ExecutionContext, clock: Clock = systemClock): Promise<Setup> {
  const at = (name: string) => join(folder, name);
  const folder = temporaryFolder(t);
  const machines = temporaryFolder(t);
  const target = await localServer(t, echo);
  for (const path of ['a', 'b', 'c', 'd'].map(at).concat(join(machines, 'vm5')))
    await startProxy(t, `unix-listen:${path}`, { incoming: [`echo:${target.port}`] });
  const group = (path: string) => ({
    label: 'vms',
    address: `unix-connect:${machines}/*`,
    template: [{ direction: 'outgoing', text: `echo:unix:${path}` }] as const,
  });
  const channel = (label: string, name: string) => ({ label, address: `unix-connect:${at(name)}` });
  const storage = { socketPath: at('storage') };
  const host = new Proxy({
    agent: 'vproxy test',
    clock,
    channels: [
      { ...channel('kept-1', 'a'), forwards: out(at('kept'), at('old-1')) },
      { ...channel('kept-2', 'd'), forwards: out(at('old-4')) },
      { ...channel('replaced', 'b'), forwards: out(at('old-2')), storage },
      { ...channel('removed', 'c'), forwards: out(at('old-3')) },
      group(at('{channel}')),
    ],
  });
  t.teardown(() => host.stop());
  await host.start();
  for (const { label } of host.listChannels()) await host.waitFor({ label, service: 'echo' }, 10_000);
  const set: ChannelOptions[] = [
    { ...channel('kept-1', 'a'), forwards: out(at('kept'), at('new-1'), at('new-2')), exec: { commands: [] } },
    { ...channel('kept-2', 'd'), exec: { commands: [] } },
    { ...channel('replaced', 'b'), name: 'another', forwards: out(at('new-3')), storage },
    { ...channel('added', 'nobody'), forwards: out(at('new-4')), storage: { socketPath: at('new-storage') } },
    { label: 'listening', address: `unix-listen:${at('new-channel')}` },
    group(at('new-{channel}/echo')),
  ];
  const wanted = (changes: Readonly<Record<string, Partial<ChannelOptions>>> = {}) => {
    const labels = set.map(({ label = '' }) => label);
    const others = Object.entries(changes).filter(([label]) => !labels.includes(label));
    return [
      ...set.map((options) => ({ ...options, ...changes[options.label ?? ''] })),
      ...others.map(([label, options]) => ({ label, address: `unix-connect:${at('nobody')}`, ...options })),
    ];
  };
  return { host, at, wanted };
}

/** Whether the storage broker answers an invalid request, at the path of its socket. */
const isBroker = async (t: ExecutionContext, path: string): Promise<boolean> =>
  (await ask(t, path, 'x\n')).includes('storage-bad-request');

async function isFree(path: string): Promise<boolean> {
  const socket = net.connect({ path });
  // The process that accepted it may have closed it already.
  socket.on('error', () => undefined);
  try {
    await once(socket, 'connect');
    return false;
  } catch {
    return true;
  } finally {
    socket.destroy();
  }
}

/** The code with which the second set fails; and what makes it one that does, and returns it. */
type Failure = readonly [
  code: string,
  cause: (t: ExecutionContext, setup: Setup) => Promise<ChannelOptions[]> | ChannelOptions[],
];

const taken = (name: string): Failure => [
  'address-in-use',
  async (t, { at, wanted }) => {
    await localServer(t, (socket) => socket.destroy(), { path: at(name) });
    return wanted();
  },
];

/** The channel `kept-2` has a forward for a service that the second set gives it, too. */
const hasForward = (text: string, changes?: Partial<ChannelOptions>): Failure => [
  'bad-argument',
  async (_t, { host, wanted }) => {
    for (const spec of incoming(text)) await host.addForward(spec, 'kept-2');
    return wanted(changes && { 'kept-2': changes });
  },
];

const FAILURES: Readonly<Record<string, Failure>> = {
  'a channel is not valid': ['bad-argument', (_t, { wanted }) => wanted({ bad: { address: 'what:ever' } })],
  'a key file is missing': ['bad-file', (_t, { at, wanted }) => wanted({ added: { keyFiles: [at('no-key')] } })],
  'a group gets the label of a channel that stays': [
    'bad-argument',
    async (_t, { host, at, wanted }) => {
      await host.addChannel({ label: 'by-hand', address: `unix-connect:${at('nobody')}` });
      return wanted({ 'by-hand': { address: `unix-connect:${at('more')}/*` } });
    },
  ],
  "the folder of a group's sockets cannot be made": [
    'address-unavailable',
    (_t, { at, wanted }) => {
      writeFileSync(at('file'), '');
      const texts = [`echo:unix:${at('new-{channel}/echo')}`, `other:unix:${at('file')}/{channel}/other`];
      return wanted({ vms: { template: texts.map((text) => ({ direction: 'outgoing', text }) as const) } });
    },
  ],
  'the first new forward of a channel that stays cannot listen': taken('new-1'),
  'its second new forward cannot listen': taken('new-2'),
  'a service of a channel that stays has a forward already': hasForward('x:1', { forwards: incoming('x:2') }),
  'a forward of a channel begun again cannot listen': taken('new-3'),
  'a forward of a new channel cannot listen': taken('new-4'),
  'the storage socket of a new channel is taken': taken('new-storage'),
  'a new channel cannot listen': taken('new-channel'),
  'a service that is now permitted has a forward already': hasForward('exec:1'),
  'a service that is now permitted gets a forward in the same set': [
    'bad-argument',
    (_t, { wanted }) => wanted({ 'kept-2': { forwards: incoming('exec:1') } }),
  ],
};

for (const [what, [code, cause]] of Object.entries(FAILURES)) {
  test(`where ${what}, nothing has changed`, async (t) => {
    const setup = await setUp(t);
    const { host, at } = setup;
    const set = await cause(t, setup);
    const squatted = await Promise.all(NEW.map(async (name) => !(await isFree(at(name)))));
    const free = NEW.filter((_name, index) => squatted[index] === false);
    const before = { forwards: host.listForwards(), options: host.options, services: host.listServices() };

    await t.throwsAsync(host.apply(set), { code });

    t.deepEqual({ forwards: host.listForwards(), options: host.options, services: host.listServices() }, before);
    for (const name of OLD) t.is(await ask(t, at(name)), 'hello', name);
    t.true(await isBroker(t, at('storage')));
    for (const name of free) t.true(await isFree(at(name)), name);
    t.false(existsSync(at('new-vm5')), 'no folder is left');
    await host.stop();
    for (const name of [...OLD, ...free, 'storage']) t.true(await isFree(at(name)), `${name} after the stop`);
  });
}

test('without a failure the same set is had, and nothing of it outlives the stop', async (t) => {
  const { host, at, wanted } = await setUp(t);
  t.like(await host.apply(wanted()), {
    addedChannels: ['added', 'listening'],
    removedChannels: ['removed'],
    changedPolicies: ['kept-1/exec', 'kept-2/exec'],
  });
  for (const name of NEW) t.false(await isFree(at(name)), name);
  t.is(await ask(t, at('kept')), 'hello');
  t.is(await ask(t, at('new-vm5/echo')), 'hello');
  t.true(await isBroker(t, at('storage')), 'of the channel that was begun again');
  await host.stop();
  for (const name of [...OLD, ...NEW, 'storage']) t.true(await isFree(at(name)), `${name} after the stop`);
});

test('the label of a group that goes is free for a channel of the same set, and the other way round', async (t) => {
  const { host, at, wanted } = await setUp(t);
  const path = { address: `unix-connect:${at('nobody-else')}`, template: [], forwards: out(at('plain')) };
  await host.apply(wanted({ vms: path }));
  t.is(host.channel('vms').group, null);
  await host.apply(wanted());
  t.throws(() => host.channel('vms'), { code: 'not-found' });
  await eventually(() => host.listChannels().some(({ label }) => label === 'vm5'));
});

/** Another listener takes the address of the first forward while it does not listen, and the set fails. */
async function displaceFirst(t: ExecutionContext, { host, at, wanted }: Setup) {
  const intruder = net.createServer((socket) => socket.on('error', () => undefined).end('intruder'));
  t.teardown(() => intruder.close());
  host.once('log', () => intruder.listen(at('old-1')));
  const obstacle = await localServer(t, (socket) => socket.destroy(), { path: at('new-channel') });
  const { message } = await t.throwsAsync(host.apply(wanted()), { code: 'address-in-use' });
  return { message, intruder, obstacle };
}

test('a forward that cannot listen again is told and tried on, and keeps no other from it', async (t) => {
  const clock = new ManualClock();
  const setup = await setUp(t, clock);
  const { host, at } = setup;
  const { message, intruder } = await displaceFirst(t, setup);
  t.regex(message, /new-channel.*; what listened before does not listen again, and tries on: .*old-1.*is taken/);
  for (const name of OLD.filter((other) => other !== 'old-1')) t.is(await ask(t, at(name)), 'hello', name);
  t.is((await readToEnd(localSocket(t, { path: at('old-1') }))).toString(), 'intruder');
  intruder.close();
  await eventually(
    () => {
      clock.advance(1000);
      return existsSync(at('old-1'));
    },
    { what: 'the forward to listen again' },
  );
  t.is(await ask(t, at('old-1')), 'hello');
  await host.stop();
  t.true(await isFree(at('old-1')));
});

for (const end of ['removed', 'stopped', 'replaced'])
  test(`a forward that tries to listen again does so no more when it was ${end}`, async (t) => {
    const clock = new ManualClock();
    const setup = await setUp(t, clock);
    const { host, at, wanted } = setup;
    const { intruder, obstacle } = await displaceFirst(t, setup);
    const { id = '' } = host.listForwards().find(({ spec }) => spec.endsWith('/old-1')) ?? {};
    if (end === 'removed') await host.removeForward(id);
    else if (end === 'stopped') await host.stop();
    else {
      obstacle.close();
      await host.apply(wanted());
    }
    intruder.close();
    clock.advance(10_000);
    // The effects of a timer show within a few turns: the check of the path, the connection to it, the bind.
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    t.true(await isFree(at('old-1')));
  });

test('a proxy that is stopped while a set is applied listens nowhere afterwards', async (t) => {
  for (let step = 1; step <= 6; step += 1) {
    const { host, at, wanted } = await setUp(t);
    let stopped: Promise<void> | null = null;
    let lines = 0;
    host.on('log', ({ event }) => {
      if (event === 'listening' || event === 'channel-listening') lines += 1;
      if (lines === step) stopped ??= host.stop();
    });
    const outcome = await host.apply(wanted()).then(
      () => 'applied',
      (error: unknown) => toVproxyError(error).code,
    );
    stopped ??= host.stop();
    await stopped;
    t.true(['applied', 'shutdown'].includes(outcome), outcome);
    for (const name of [...OLD, ...NEW, 'storage'])
      t.true(await isFree(at(name)), `${name} after a stop at step ${step}`);
  }
});
