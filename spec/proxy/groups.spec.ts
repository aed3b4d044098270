/** Groups of channels in whole proxies: sockets that come and go, and templates that change. */
import { existsSync, mkdirSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { ForwardTemplate } from '../../lib/proxy/channel-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { temporaryFolder } from '../helpers/files.js';
import { answerTo, ask as askAt, echo, localServer, openEcho, startProxy, TestProxy } from '../helpers/proxies.js';
import { eventually } from '../helpers/time.js';

const outgoing = (text: string): ForwardTemplate => ({ direction: 'outgoing', text });

/** A folder for sockets of machines and one (FOLDER) for those of forwards, and the options of a group between them. */
function setUp(t: ExecutionContext, ...forwardTexts: string[]) {
  const root = temporaryFolder(t);
  const machines = join(root, 'vms');
  mkdirSync(machines);
  const forwards = join(root, 'forwards');
  const templateOf = (texts: readonly string[]) => texts.map((text) => outgoing(text.replace('FOLDER', forwards)));
  const group = {
    label: 'vms',
    address: `unix-connect:${machines}/*.sock`,
    template: templateOf(forwardTexts),
  };
  return { machines, forwards, group, templateOf };
}

const startHost = (t: ExecutionContext, { address, ...group }: ReturnType<typeof setUp>['group']): Promise<TestProxy> =>
  startProxy(t, address, group);

async function machine(t: ExecutionContext, folder: string, name: string): Promise<TestProxy> {
  const server = await localServer(t, echo);
  return startProxy(t, `unix-listen:${join(folder, `${name}.sock`)}`, { name, incoming: [`echo:${server.port}`] });
}

/** What a program gets back that says hello to a socket, which may be made just now. */
async function ask(t: ExecutionContext, path: string): Promise<string> {
  await eventually(() => existsSync(path), { what: path });
  return askAt(t, path);
}

const labels = ({ proxy }: TestProxy): string[] => proxy.listChannels().map(({ label }) => label);

test('a machine that appears has forwards of its own, and they go with it', async (t) => {
  const { machines, forwards, group } = setUp(t, 'echo:FOLDER/{channel}/echo.sock');
  const [vm1, vm2] = ['vm1', 'vm2'].map((name) => join(forwards, name, 'echo.sock')) as [string, string];
  const first = await machine(t, machines, 'vm1');
  const { proxy, ...side } = new TestProxy(t, group.address, group);
  t.deepEqual(proxy.listChannels(), []);
  await proxy.start();
  t.like(proxy.listChannels(), [{ label: 'vm1', group: 'vms' }]);
  const second = await machine(t, machines, 'vm2');
  for (const path of [vm1, vm2]) {
    t.is(await ask(t, path), 'hello');
    t.is(statSync(dirname(path)).mode & 0o777, 0o700);
  }
  t.is(proxy.channel('vm2').session?.peer.name, 'vm2');

  await first.proxy.stop();
  await eventually(() => proxy.listChannels().length === 1);
  await eventually(() => !existsSync(dirname(vm1)));
  t.is(await ask(t, vm2), 'hello');
  t.true(side.events.some(({ message }) => message.startsWith('vms: channel vm1 was removed')));
  await proxy.stop();
  await second.proxy.stop();
  t.false(existsSync(dirname(vm2)));
});

test('a machine whose socket goes keeps its channel and its streams while it runs, and gets new forwards', async (t) => {
  const { machines, forwards, group, templateOf } = setUp(t, 'echo:FOLDER/{channel}.sock');
  const guest = await machine(t, machines, 'vm1');
  const side = await startHost(t, group);
  const socket = await openEcho(t, join(forwards, 'vm1.sock'));
  // The file only: connections stay.
  rmSync(join(machines, 'vm1.sock'));
  await machine(t, machines, 'vm2');
  await eventually(() => labels(side).includes('vm2'));
  t.is(await answerTo(socket, 'still'), 'still');
  await side.proxy.apply([
    { ...group, template: templateOf(['echo:FOLDER/{channel}.sock', 'echo:FOLDER/b/{channel}.sock']) },
  ]);
  t.is(await answerTo(socket, 'more'), 'more');
  t.true(existsSync(join(forwards, 'b', 'vm1.sock')));
  await guest.proxy.stop();
  await eventually(() => !labels(side).includes('vm1'));
});

test('a symbolic link that takes the place of a socket is not followed', async (t) => {
  const { machines, group } = setUp(t);
  const elsewhere = join(machines, '..', 'elsewhere');
  mkdirSync(elsewhere);
  let connectionCount = 0;
  await localServer(
    t,
    (socket) => {
      connectionCount += 1;
      socket.destroy();
    },
    { path: join(elsewhere, 'service.sock') },
  );
  const first = await machine(t, machines, 'vm1');
  const side = await startHost(t, group);
  await side.event('session-established');
  symlinkSync(join(elsewhere, 'service.sock'), join(machines, 'vm2.sock'));
  await first.proxy.stop();
  rmSync(join(machines, 'vm1.sock'), { force: true });
  symlinkSync(join(elsewhere, 'service.sock'), join(machines, 'vm1.sock'));
  await eventually(() => side.count('group-skipped') === 2, { what: 'two lines' });
  await eventually(() => labels(side).length === 0, { what: 'no channel' });
  t.is(connectionCount, 0);
});

test('another template changes the forwards of the channels, and unchanged ones keep their streams', async (t) => {
  const kept = 'echo:FOLDER/{channel}/kept.sock';
  const { machines, forwards, group, templateOf } = setUp(t, kept, 'echo:FOLDER/{channel}/old.sock');
  await machine(t, machines, 'vm1');
  const side = await startHost(t, group);
  const socket = await openEcho(t, join(forwards, 'vm1', 'kept.sock'));
  const same = await side.proxy.apply(side.proxy.options);
  t.deepEqual(Object.values(same).flat(), []);

  const template = templateOf([kept, 'echo:FOLDER/new/{channel}.sock']);
  const changes = await side.proxy.apply([{ ...group, template }]);
  t.deepEqual(changes, {
    ...same,
    addedForwards: [`-o vm1/echo:unix:${forwards}/new/vm1.sock`],
    removedForwards: [`-o vm1/echo:unix:${forwards}/vm1/old.sock`],
  });
  t.is(await ask(t, join(forwards, 'new', 'vm1.sock')), 'hello');
  t.false(existsSync(join(forwards, 'vm1', 'old.sock')));
  t.is(await answerTo(socket, 'still'), 'still');
  t.is(side.proxy.channel('vm1').history.sessions, 1);
  await machine(t, machines, 'vm2');
  t.is(await ask(t, join(forwards, 'new', 'vm2.sock')), 'hello');
  t.like(side.proxy.options, [{ label: 'vms', template }]);
});

test('a group that is not applied any more goes with its channels, and finds no more', async (t) => {
  const { machines, forwards, group } = setUp(t, 'echo:FOLDER/{channel}/echo.sock');
  await machine(t, machines, 'vm1');
  const side = await startHost(t, group);
  const plain = { label: 'vm2', address: `unix-connect:${machines}/vm2.sock` };
  const changes = await side.proxy.apply([plain]);
  t.like(changes, { removedChannels: ['vm1'], addedChannels: ['vm2'] });
  t.deepEqual(labels(side), ['vm2']);
  t.false(existsSync(join(forwards, 'vm1')));
  await machine(t, machines, 'vm3');
  await machine(t, machines, 'vm2');
  await eventually(() => side.proxy.channel('vm2').session !== null);
  t.deepEqual(labels(side), ['vm2']);
  t.deepEqual(side.proxy.options, [{ ...plain, forwards: [] }]);
});

test('a group of another folder has the channels of that folder', async (t) => {
  const { machines, group } = setUp(t);
  await machine(t, machines, 'vm1');
  const side = await startHost(t, group);
  const folder = join(dirname(machines), 'others');
  mkdirSync(folder);
  await machine(t, folder, 'vm9');
  const changes = await side.proxy.apply([{ ...group, address: `unix-connect:${folder}/*.sock` }]);
  t.deepEqual(changes.removedChannels, ['vm1']);
  t.deepEqual(labels(side), ['vm9']);
});

test('a channel that is asked for itself takes the place of the one that a group made', async (t) => {
  const { machines, group } = setUp(t);
  await machine(t, machines, 'vm1');
  const side = await startHost(t, group);
  const own = { label: 'vm1', address: `unix-connect:${machines}/vm1.sock`, waitMs: 1 };
  const changes = await side.proxy.apply([own, group]);
  t.deepEqual(changes.replacedChannels, ['vm1']);
  t.is(side.proxy.channel('vm1').group, null);
});

test('a proxy with a group goes on when all its channels have failed for ever', async (t) => {
  const { machines, group } = setUp(t);
  const side = new TestProxy(t, `unix-connect:${machines}/*`, group);
  const reasons: unknown[] = [];
  side.proxy.on('fatal', (reason) => reasons.push(reason));
  await side.start();
  await t.notThrowsAsync(side.proxy.addChannel({ label: 'file', address: `unix-connect:${machines}` }));
  await side.event('channel-failed');
  t.deepEqual(reasons, []);
});

test('a group with a label that is taken is refused, and one that is added as a channel', async (t) => {
  const group = { label: 'vms', address: 'unix-connect:/run/vms/*.sock' };
  for (const other of [{ label: 'vms', address: 'unix-connect:/run/vm1.sock' }, group])
    t.throws(() => new Proxy({ channels: [other, group], agent: 'test' }), { code: 'bad-argument' });
  const proxy = new Proxy({ channels: [], agent: 'test' });
  t.teardown(() => proxy.stop());
  await t.throwsAsync(proxy.addChannel(group), { code: 'bad-argument' });
});

test('who waits for a label that a group may bring waits, and is told at once of one that it cannot', async (t) => {
  const { machines, group } = setUp(t);
  const { proxy } = await startHost(t, group);
  await t.throwsAsync(proxy.waitFor({ label: 'default' }, 60_000), { code: 'not-found' });
  const waiting = proxy.waitFor({ label: 'vm1', service: 'echo' }, 60_000);
  await machine(t, machines, 'vm1');
  t.is((await waiting).label, 'vm1');
});
