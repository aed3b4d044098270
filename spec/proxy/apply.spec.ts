/** Applying a set of channels: what is unchanged continues, and a set that fails, in whichever step, leaves no trace. */
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { toVproxyError } from '../../lib/errors.js';
import type { ChannelOptions } from '../../lib/proxy/channel/channel-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { type Clock, systemClock } from '../../lib/util/clock.js';
import { temporaryFolder, writeKeyFile } from '../helpers/files.js';
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

async function startHost(t: ExecutionContext, channels: readonly ChannelOptions[], clock: Clock = systemClock) {
  const host = new Proxy({ channels: [...channels], agent: 'vproxy test', clock });
  t.teardown(() => host.stop());
  await host.start();
  return host;
}

/** A guest `vm1` and a guest `vm2` that offer echo and other; `channel` gives the options of a channel to one. */
async function startGuests(t: ExecutionContext, keyFiles: readonly string[] = []) {
  const folder = temporaryFolder(t);
  const at = (name: string) => join(folder, name);
  const { port } = await localServer(t, echo);
  for (const name of ['vm1', 'vm2'])
    await startProxy(t, `unix-listen:${at(name)}`, { name, keyFiles, incoming: [`echo:${port}`, `other:${port}`] });
  const channel = (label: string, forwards: readonly string[] = [], more: Partial<ChannelOptions> = {}) => {
    const texts = forwards.map((text) => text.replace('FOLDER', folder));
    return { label, address: `unix-connect:${at(label)}`, forwards: outgoing(...texts), ...more };
  };
  return { at, channel };
}

/** What a reload changes of the options of a channel; forwards as texts. */
type Change = Partial<Omit<ChannelOptions, 'forwards'>> & { readonly forwards?: readonly string[] };

const labelsOf = (host: Proxy) => host.listChannels().map(({ label }) => label);

test('what is unchanged or was added at run time continues; streams of removed forwards end cleanly', async (t) => {
  const { at, channel } = await startGuests(t);
  const vm2 = (name: string, ...forwards: readonly string[]) => channel('vm2', forwards, { name });
  const first = [
    channel('vm1', ['echo:0', 'other:0', 'echo:FOLDER/a.sock', 'other:FOLDER/b.sock']),
    ...[channel('old'), vm2('a')],
  ];
  const host = await startHost(t, first);
  await host.waitFor({ label: 'vm1' }, 30_000);
  const listed = () => host.listForwards().map(({ id, endpoint }) => ({ id, endpoint }));
  const before = listed();
  const [echoPort = 0, otherPort = 0] = before.map(({ endpoint }) => portOf(endpoint));
  const kept = await Promise.all(Array.from({ length: 50 }, () => openEcho(t, echoPort)));
  const going = await openEcho(t, otherPort);
  const same = await host.apply(first);
  for (const changes of [same, await host.apply(first), await host.apply(first)])
    t.deepEqual(Object.values(changes).flat(), []);
  t.deepEqual(listed(), before);
  for (const spec of outgoing(`echo:${at('hand.sock')}`))
    t.is((await host.addForward(spec, 'vm1')).id, `f${before.length + 1}`, 'a reload without a change uses up no ids');
  await host.addChannel(channel('by-hand'));

  // One address moves to another forward, and one to another channel.
  const second = [channel('vm1', ['echo:0', 'other:FOLDER/a.sock']), vm2('b', 'echo:FOLDER/b.sock'), channel('new')];
  t.deepEqual(await host.apply(second), {
    ...same,
    ...{ addedChannels: ['new'], removedChannels: ['old'], replacedChannels: ['vm2'] },
    addedForwards: [`-o vm1/other:unix:${at('a.sock')}`],
    removedForwards: ['other:127.0.0.1:0', `echo:unix:${at('a.sock')}`, `other:unix:${at('b.sock')}`].map(
      (text) => `-o vm1/${text}`,
    ),
  });
  t.deepEqual(labelsOf(host).sort(), ['by-hand', 'new', 'vm1', 'vm2']);
  t.is(host.channel('vm1').history.sessions, 1);
  t.like(host.listForwards()[0], { ...before[0], streams: 50 });
  for (const socket of [going, ...kept]) t.true(await endsInOrder(socket));
  for (const path of ['a.sock', 'b.sock', 'hand.sock']) t.is(await ask(t, at(path)), 'hello', path);
  await eventually(() => host.listForwards().length === 4);
});

for (const [what, changed, settings = []] of [
  ['nothing', {}],
  ['ports', { announcePorts: [[3000, 3009]] }, ['vm1/announce-ports']],
  ['a limit', { policies: { exec: { streams: 2 } } }],
  ['a key', { keyFiles: ['own', 'next'] }, ['vm1/keys']],
  ['the address of a forward', { forwards: ['echo:0', 'other:FOLDER/next.sock'] }],
] as const) {
  test(`a change of ${what} keeps the ids and the connections of everything else`, async (t) => {
    const { at, channel } = await startGuests(t, [writeKeyFile(temporaryFolder(t), 'own', '11')]);
    const [own, next] = [writeKeyFile(at(''), 'own', '11'), writeKeyFile(at(''), 'next', '22')];
    const configured = ({ forwards = ['echo:0', 'other:FOLDER/other.sock'], keyFiles = ['own'], ...more }: Change) =>
      ['vm1', 'vm2'].map((label) =>
        channel(label, label === 'vm1' ? forwards : ['echo:0'], {
          keyFiles: label === 'vm1' && keyFiles.length > 1 ? [own, next] : [own],
          ...(label === 'vm1' ? more : {}),
        }),
      );
    const host = await startHost(t, configured({}));
    await Promise.all(['vm1', 'vm2'].map((label) => host.waitFor({ label }, 30_000)));
    const listed = () => host.listForwards().map(({ id, endpoint, streams }) => ({ id, endpoint, streams }));
    const ports = listed().flatMap(({ endpoint }) => portOf(endpoint) || []);
    const kept = await Promise.all(ports.map((port) => openEcho(t, port)));
    const before = listed();
    const { changedSettings } = await host.apply(configured(changed));
    t.deepEqual(changedSettings, settings);
    const stays = before.filter(({ endpoint }) => !('forwards' in changed) || !endpoint.endsWith('other.sock'));
    const ids = stays.map(({ id }) => id);
    t.deepEqual(
      listed().filter(({ id }) => ids.includes(id)),
      stays,
    );
    t.is(listed().length, before.length);
    t.deepEqual(
      host.listChannels().map(({ history }) => history.sessions),
      [1, 1],
    );
    for (const socket of kept) t.true(await endsInOrder(socket));
  });
}

test('a channel is removed in the state in which a concurrent reload leaves it', async (t) => {
  const { at, channel } = await startGuests(t);
  const host = await startHost(t, [channel('vm1', ['echo:0'])]);
  const applied = host.apply([channel('vm1', ['echo:0', 'other:FOLDER/other.sock']), channel('vm2')]);
  const removed = ['vm1', 'vm2'].map((label) => host.removeChannel(label, { isDraining: false }));
  t.like(await applied, { addedChannels: ['vm2'], addedForwards: [`-o vm1/other:unix:${at('other.sock')}`] });
  await Promise.all(removed);
  t.deepEqual(labelsOf(host), []);
  t.false(existsSync(at('other.sock')), 'none of it still listens');
});

test('a draining channel blocks no other change, and its end does not remove its replacement', async (t) => {
  const { channel } = await startGuests(t);
  const host = await startHost(t, [channel('vm1', ['echo:0'])]);
  await host.waitFor({}, 30_000);
  const failed = failureOf(await openEcho(t, portOf(host.listForwards()[0]?.endpoint ?? '')));
  const removed = host.removeChannel('vm1');
  await eventually(() => host.channel('vm1').state === 'draining');
  t.is((await host.addChannel(channel('vm2'))).label, 'vm2');
  const { address } = channel('nobody');
  t.deepEqual((await host.apply([{ label: 'vm1', address }])).replacedChannels, ['vm1']);
  await failed;
  await removed;
  t.like(host.listChannels(), [{ label: 'vm2' }, { label: 'vm1', address }]);
});

// Failures.

const OLD = ['kept', 'old-1', 'old-2', 'old-3', 'old-4', 'vm5'];

/** The forwards that listen only in the second set. */
const NEW = ['new-1', 'new-2', 'new-3', 'new-storage', 'new-4', 'new-channel', 'new-vm5/echo'];

type Changes = Readonly<Record<string, Partial<ChannelOptions>>>;

/**
 * A host with channels that are kept, changed, added and removed, and a second, valid set of channels: `wanted`, with
 * overrides for the channels of some labels. `at` is a path in the folder of the test.
 */
async function setUp(t: ExecutionContext, clock?: Clock) {
  const folder = temporaryFolder(t);
  const machines = temporaryFolder(t);
  const at = (name: string) => join(folder, name);
  const target = await localServer(t, echo);
  for (const path of ['a', 'b', 'c', 'd'].map(at).concat(join(machines, 'vm5')))
    await startProxy(t, `unix-listen:${path}`, { incoming: [`echo:${target.port}`] });
  const to = (name: string, ...forwards: readonly string[]) => ({
    address: `unix-connect:${at(name)}`,
    forwards: outgoing(...forwards.map((path) => `echo:unix:${at(path)}`)),
  });
  const group = (path: string) => ({
    address: `unix-connect:${machines}/*`,
    template: [{ direction: 'outgoing', text: `echo:unix:${at(path)}` }] as const,
  });
  const storage = { socketPath: at('storage') };
  const setOf = (channels: Readonly<Record<string, Omit<ChannelOptions, 'label'>>>, changes: Changes = {}) =>
    Object.keys({ ...channels, ...changes }).map(
      (label): ChannelOptions => ({ label, ...(channels[label] ?? to('nobody')), ...changes[label] }),
    );
  const first = setOf({
    ...{ 'kept-1': to('a', 'kept', 'old-1'), 'kept-2': to('d', 'old-4') },
    ...{ replaced: { ...to('b', 'old-2'), storage }, removed: to('c', 'old-3'), vms: group('{channel}') },
  });
  const exec = { commands: [] };
  const second = {
    ...{ 'kept-1': { ...to('a', 'kept', 'new-1', 'new-2'), exec }, 'kept-2': { ...to('d'), exec } },
    replaced: { ...to('b', 'new-3'), name: 'another', storage },
    added: { ...to('nobody', 'new-4'), storage: { socketPath: at('new-storage') } },
    listening: { address: `unix-listen:${at('new-channel')}` },
    vms: group('new-{channel}/echo'),
  };
  const host = await startHost(t, first, clock);
  for (const { label } of host.listChannels()) await host.waitFor({ label, service: 'echo' }, 10_000);
  return { host, at, wanted: (changes?: Changes) => setOf(second, changes) };
}

type Setup = Awaited<ReturnType<typeof setUp>>;

/** Whether the storage broker at a socket path answers an invalid request. */
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

async function assertFree(t: ExecutionContext, { at }: Setup, names: readonly string[], when: string): Promise<void> {
  for (const name of names) t.true(await isFree(at(name)), `${name} ${when}`);
}

/** Returns the second set, changed so that it fails. */
type Cause = (setup: Setup, t: ExecutionContext) => Promise<ChannelOptions[]> | ChannelOptions[];

const taken =
  (name: string): Cause =>
  async ({ at, wanted }, t) => {
    await localServer(t, (socket) => socket.destroy(), { path: at(name) });
    return wanted();
  };

/** The channel `kept-2` has a forward for a service that the second set also gives it. */
const hasForward =
  (text: string, changes: Changes = {}): Cause =>
  async ({ host, wanted }) => {
    for (const spec of incoming(text)) await host.addForward(spec, 'kept-2');
    return wanted(changes);
  };

const FAILURES: readonly (readonly [code: string, what: string, cause: Cause])[] = [
  ['bad-argument', 'a channel is not valid', ({ wanted }) => wanted({ bad: { address: 'what:ever' } })],
  ['bad-file', 'a key file is missing', ({ at, wanted }) => wanted({ added: { keyFiles: [at('no-key')] } })],
  [
    'bad-argument',
    'a group gets the label of a channel that stays',
    async ({ host, at, wanted }) => {
      await host.addChannel({ label: 'by-hand', address: `unix-connect:${at('nobody')}` });
      return wanted({ 'by-hand': { address: `unix-connect:${at('more')}/*`, forwards: [] } });
    },
  ],
  [
    'address-unavailable',
    "the folder of a group's sockets cannot be made",
    ({ at, wanted }) => {
      writeFileSync(at('file'), '');
      const texts = [`echo:unix:${at('new-{channel}/echo')}`, `other:unix:${at('file')}/{channel}/other`];
      return wanted({ vms: { template: texts.map((text) => ({ direction: 'outgoing', text }) as const) } });
    },
  ],
  ['address-in-use', 'the first new forward of a channel that stays cannot listen', taken('new-1')],
  ['address-in-use', 'its second new forward cannot listen', taken('new-2')],
  [
    'bad-argument',
    'a service of a channel that stays has a forward already',
    hasForward('x:1', { 'kept-2': { forwards: incoming('x:2') } }),
  ],
  ['address-in-use', 'a forward of a channel begun again cannot listen', taken('new-3')],
  ['address-in-use', 'a forward of a new channel cannot listen', taken('new-4')],
  ['address-in-use', 'the storage socket of a new channel is taken', taken('new-storage')],
  ['address-in-use', 'a new channel cannot listen', taken('new-channel')],
  ['bad-argument', 'a service that is now permitted has a forward already', hasForward('exec:tcp:1')],
  [
    'bad-argument',
    'a service that is now permitted gets a forward in the same set',
    ({ wanted }) => wanted({ 'kept-2': { forwards: incoming('exec:tcp:1') } }),
  ],
];

for (const [code, what, cause] of FAILURES) {
  test(`where ${what}, nothing has changed`, async (t) => {
    const setup = await setUp(t);
    const { host, at } = setup;
    const set = await cause(setup, t);
    const areFree = await Promise.all(NEW.map((name) => isFree(at(name))));
    const free = NEW.filter((_name, index) => areFree[index]);
    const state = () => ({ forwards: host.listForwards(), options: host.options, services: host.listServices() });
    const before = state();

    await t.throwsAsync(host.apply(set), { code });

    t.deepEqual(state(), before);
    for (const name of OLD) t.is(await ask(t, at(name)), 'hello', name);
    t.true(await isBroker(t, at('storage')));
    await assertFree(t, setup, free, 'after the failure');
    t.false(existsSync(at('new-vm5')), 'no folder is left');
    await host.stop();
    await assertFree(t, setup, [...OLD, ...free, 'storage'], 'after the stop');
  });
}

test('without a failure the same set is applied, and nothing of it outlives the stop', async (t) => {
  const setup = await setUp(t);
  const { host, at, wanted } = setup;
  t.like(await host.apply(wanted()), {
    addedChannels: ['added', 'listening'],
    removedChannels: ['removed'],
    changedPolicies: ['kept-1/exec', 'kept-2/exec'],
  });
  for (const name of NEW) t.false(await isFree(at(name)), name);
  for (const name of ['kept', 'new-vm5/echo']) t.is(await ask(t, at(name)), 'hello', name);
  t.true(await isBroker(t, at('storage')), 'of the channel that was begun again');

  // The label of a removed group is free for a channel of the same set, and vice versa.
  const plain = { address: `unix-connect:${at('nobody-else')}`, template: [], forwards: [] };
  await host.apply(wanted({ vms: plain }));
  t.is(host.channel('vms').group, null);
  await host.apply(wanted());
  t.throws(() => host.channel('vms'), { code: 'not-found' });
  await eventually(() => labelsOf(host).includes('vm5'));
  await host.stop();
  await assertFree(t, setup, [...OLD, ...NEW, 'storage'], 'after the stop');
});

/** Another listener takes the address of the first forward while it is paused, and the set fails. */
async function displaceFirst(t: ExecutionContext, { host, at, wanted }: Setup) {
  const intruder = net.createServer((socket) => socket.on('error', () => undefined).end('intruder'));
  t.teardown(() => intruder.close());
  host.once('log', () => intruder.listen(at('old-1')));
  const obstacle = await localServer(t, (socket) => socket.destroy(), { path: at('new-channel') });
  const { message } = await t.throwsAsync(host.apply(wanted()), { code: 'address-in-use' });
  return { message, intruder, obstacle };
}

test('a forward that cannot listen again is reported and retried, and does not block the others', async (t) => {
  const clock = new ManualClock();
  const setup = await setUp(t, clock);
  const { host, at } = setup;
  const { message, intruder } = await displaceFirst(t, setup);
  t.regex(message, /new-channel.*; a previous listener could not be restored, retrying: .*old-1.*already in use/);
  for (const name of OLD.filter((other) => other !== 'old-1')) t.is(await ask(t, at(name)), 'hello', name);
  t.is((await readToEnd(localSocket(t, at('old-1')))).toString(), 'intruder');
  intruder.close();
  await eventually(() => (clock.advance(1000), existsSync(at('old-1'))), { what: 'the forward to listen again' });
  t.is(await ask(t, at('old-1')), 'hello');
  await host.stop();
  await assertFree(t, setup, ['old-1'], 'after the stop');
});

for (const end of ['removed', 'stopped', 'replaced'])
  test(`a forward stops retrying to listen when it was ${end}`, async (t) => {
    const clock = new ManualClock();
    const setup = await setUp(t, clock);
    const { host, wanted } = setup;
    const { intruder, obstacle } = await displaceFirst(t, setup);
    const { id = '' } = host.listForwards().find(({ spec }) => spec.endsWith('/old-1')) ?? {};
    if (end === 'replaced') obstacle.close();
    await (end === 'removed' ? host.removeForward(id) : end === 'stopped' ? host.stop() : host.apply(wanted()));
    intruder.close();
    clock.advance(10_000);
    // The effects of a timer show within a few turns: the check of the path, the connection to it, the bind.
    for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    await assertFree(t, setup, ['old-1'], 'for good');
  });

test('a proxy stopped while applying a set listens nowhere afterwards', async (t) => {
  for (let step = 1; step <= 6; step += 1) {
    const setup = await setUp(t);
    const { host, wanted } = setup;
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
    await assertFree(t, setup, [...OLD, ...NEW, 'storage'], `after a stop at step ${step}`);
  }
});
