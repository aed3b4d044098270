/** Groups of channels in whole proxies: sockets that come and go, and templates that change. */
import { once } from 'node:events';
import { existsSync, mkdirSync, rmSync, statSync, symlinkSync } from 'node:fs';
import type net from 'node:net';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import type { ChannelOptions, ForwardTemplate } from '../../lib/proxy/channel-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { temporaryFolder } from '../helpers/files.js';
import { echo, localServer, localSocket, TestProxy } from '../helpers/proxies.js';
import { eventually, within } from '../helpers/time.js';

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

const host = (t: ExecutionContext, { label, address, template }: ReturnType<typeof setUp>['group']): TestProxy =>
  new TestProxy(t, address, { label, template });

/** A machine whose service `echo` sends the machine's name and then what it receives. */
async function machine(t: ExecutionContext, folder: string, name: string): Promise<TestProxy> {
  const server = await localServer(t, (socket) => {
    socket.write(`${name} `);
    echo(socket);
  });
  const guest = new TestProxy(t, `unix-listen:${join(folder, `${name}.sock`)}`, {
    name,
    incoming: [`echo:${server.port}`],
  });
  await guest.start();
  return guest;
}

/** What a program gets back that sends `text` to a socket. */
async function ask(t: ExecutionContext, path: string, text: string): Promise<string> {
  await eventually(() => existsSync(path), { what: path });
  const socket = localSocket(t, { path });
  socket.end(text);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  await within(10_000, `an answer of ${path}`, once(socket, 'end'));
  return Buffer.concat(chunks).toString();
}

/** What comes next on an open socket when `text` is sent. */
async function answerTo(socket: net.Socket, text: string): Promise<string> {
  socket.write(text);
  const [data] = (await within(10_000, 'an answer', once(socket, 'data'))) as [Buffer];
  return data.toString();
}

const labels = ({ proxy }: TestProxy): string[] => proxy.listChannels().map(({ label }) => label);

test('a machine that appears has forwards of its own, and they go with it', async (t) => {
  const { machines, forwards, group } = setUp(t, 'echo:FOLDER/{channel}/echo.sock');
  const first = await machine(t, machines, 'vm1');
  const { proxy, ...side } = host(t, group);
  t.deepEqual(proxy.listChannels(), []);
  await proxy.start();
  t.deepEqual(
    proxy.listChannels().map(({ label, group: of }) => [label, of]),
    [['vm1', 'vms']],
  );
  const second = await machine(t, machines, 'vm2');
  const paths = ['vm1', 'vm2'].map((name) => join(forwards, name, 'echo.sock'));
  t.is(await ask(t, paths[0] ?? '', 'hello'), 'vm1 hello');
  t.is(await ask(t, paths[1] ?? '', 'hello'), 'vm2 hello');
  for (const path of paths) t.is(statSync(dirname(path)).mode & 0o777, 0o700);

  await first.proxy.stop();
  await eventually(() => proxy.listChannels().length === 1);
  await eventually(() => !existsSync(dirname(paths[0] ?? '')));
  t.is(await ask(t, paths[1] ?? '', 'again'), 'vm2 again');
  t.true(side.events.some(({ message }) => message.startsWith('vms: channel vm1 was removed')));
  await proxy.stop();
  await second.proxy.stop();
  t.false(existsSync(dirname(paths[1] ?? '')));
});

test('a machine whose socket goes keeps its channel and its streams while it runs', async (t) => {
  const { machines, forwards, group, templateOf } = setUp(t, 'echo:FOLDER/{channel}.sock');
  const guest = await machine(t, machines, 'vm1');
  const side = host(t, group);
  await side.start();
  const socket = localSocket(t, { path: join(forwards, 'vm1.sock') });
  await within(10_000, 'the stream', once(socket, 'data'));
  // The file only: connections stay.
  rmSync(join(machines, 'vm1.sock'));
  await machine(t, machines, 'vm2');
  await eventually(() => labels(side).includes('vm2'));
  t.is(await answerTo(socket, 'still'), 'still');
  // Also when the template is another one by now.
  await side.proxy.apply([
    { ...group, template: templateOf(['echo:FOLDER/{channel}.sock', 'echo:FOLDER/b/{channel}.sock']) },
  ]);
  t.is(await answerTo(socket, 'more'), 'more');
  t.true(existsSync(join(forwards, 'b', 'vm1.sock')));
  await guest.proxy.stop();
  // Sooner than the folder is read without an event.
  await eventually(() => !labels(side).includes('vm1'), { timeoutMs: 4000 });
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
  const side = host(t, group);
  await side.proxy.start();
  await side.event('session-established');
  symlinkSync(join(elsewhere, 'service.sock'), join(machines, 'vm2.sock'));
  await first.proxy.stop();
  rmSync(join(machines, 'vm1.sock'), { force: true });
  symlinkSync(join(elsewhere, 'service.sock'), join(machines, 'vm1.sock'));
  await eventually(() => side.events.filter(({ event }) => event === 'group-skipped').length === 2, {
    what: 'two lines',
  });
  await eventually(() => labels(side).length === 0, { what: 'no channel' });
  t.is(connectionCount, 0);
});

test('a label that another channel has is one warning, and that channel is not touched', async (t) => {
  const { machines, group } = setUp(t);
  await machine(t, machines, 'vm1');
  const events: string[] = [];
  const proxy = new Proxy({
    channels: [{ label: 'vm1', address: `unix-connect:${machines}/elsewhere` }, group],
    agent: 'test',
  });
  t.teardown(() => proxy.stop());
  proxy.on('log', ({ level, event, message }) => level === 'warn' && events.push(`${event} ${message}`));
  await proxy.start();
  proxy.retryNow();
  await machine(t, machines, 'vm2');
  await eventually(() => proxy.listChannels().length === 2);
  t.is(proxy.channel('vm1').group, null);
  t.deepEqual(events, [
    `group-skipped vms: ${machines}/vm1.sock gets no channel: channel vm1 is there already; each channel has its own label`,
  ]);
});

test('a port that is taken keeps one machine out and not the others, until it is free', async (t) => {
  const { machines, forwards, group } = setUp(t, 'echo:FOLDER/{channel}/echo.sock');
  mkdirSync(join(forwards, 'vm1'), { recursive: true });
  const other = await localServer(t, echo, { path: join(forwards, 'vm1', 'echo.sock') });
  await machine(t, machines, 'vm1');
  await machine(t, machines, 'vm2');
  const side = host(t, group);
  await side.start();
  t.deepEqual(labels(side), ['vm2']);
  t.is(side.events.filter(({ event }) => event === 'group-skipped').length, 1);
  other.close();
  await eventually(() => {
    side.proxy.retryNow();
    return labels(side).includes('vm1');
  });
  t.is(await ask(t, join(forwards, 'vm1', 'echo.sock'), 'hello'), 'vm1 hello');
});

test('another template changes the forwards of the channels, and unchanged ones keep their streams', async (t) => {
  const kept = 'echo:FOLDER/{channel}/kept.sock';
  const { machines, forwards, group, templateOf } = setUp(t, kept, 'echo:FOLDER/{channel}/old.sock');
  await machine(t, machines, 'vm1');
  const side = host(t, group);
  await side.start();
  const socket = localSocket(t, { path: join(forwards, 'vm1', 'kept.sock') });
  await within(10_000, 'the stream', once(socket, 'data'));

  const template = templateOf([kept, 'echo:FOLDER/new/{channel}.sock']);
  const changes = await side.proxy.apply([{ ...group, template }]);
  t.deepEqual(changes, {
    addedChannels: [],
    removedChannels: [],
    replacedChannels: [],
    addedForwards: [`-o vm1/echo:unix:${forwards}/new/vm1.sock`],
    removedForwards: [`-o vm1/echo:unix:${forwards}/vm1/old.sock`],
    changedPolicies: [],
    changedEgress: [],
  });
  t.is(await ask(t, join(forwards, 'new', 'vm1.sock'), 'hello'), 'vm1 hello');
  t.false(existsSync(join(forwards, 'vm1', 'old.sock')));
  t.is(await answerTo(socket, 'still'), 'still');

  await machine(t, machines, 'vm2');
  t.is(await ask(t, join(forwards, 'new', 'vm2.sock'), 'hello'), 'vm2 hello');
  t.deepEqual(
    side.proxy.options.map((options) => [options.label, options.template]),
    [['vms', template]],
  );
});

test('a group that is applied again as it was changes nothing', async (t) => {
  const { machines, group } = setUp(t, 'echo:FOLDER/{channel}/echo.sock');
  await machine(t, machines, 'vm1');
  const side = host(t, group);
  await side.start();
  await side.event('session-established');
  const changes = await side.proxy.apply(side.proxy.options);
  t.true(Object.values(changes).every((list: readonly string[]) => list.length === 0));
  await machine(t, machines, 'vm2');
  await eventually(() => labels(side).length === 2);
  t.is(side.proxy.channel('vm1').history.sessions, 1);
});

test('a group that is not applied any more goes with its channels, and finds no more', async (t) => {
  const { machines, forwards, group } = setUp(t, 'echo:FOLDER/{channel}/echo.sock');
  await machine(t, machines, 'vm1');
  const side = host(t, group);
  await side.start();
  const plain = { label: 'vm2', address: `unix-connect:${machines}/vm2.sock` };
  const changes = await side.proxy.apply([plain]);
  t.deepEqual([changes.removedChannels, changes.addedChannels], [['vm1'], ['vm2']]);
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
  const side = host(t, group);
  await side.start();
  const folder = join(dirname(machines), 'others');
  mkdirSync(folder);
  await machine(t, folder, 'vm9');
  const changes = await side.proxy.apply([{ ...group, address: `unix-connect:${folder}/*.sock` }]);
  t.deepEqual(changes.removedChannels, ['vm1']);
  t.deepEqual(labels(side), ['vm9']);
});

test('a template that cannot be had changes nothing', async (t) => {
  const { machines, forwards, group } = setUp(t, 'echo:FOLDER/{channel}/echo.sock');
  await machine(t, machines, 'vm1');
  const side = host(t, group);
  await side.start();
  const { port } = await localServer(t, echo);
  const taken = { ...group, template: [outgoing(`echo:127.0.0.1:${port}`)] };
  await t.throwsAsync(side.proxy.apply([taken]), { code: 'address-in-use' });
  const invalid = { ...group, template: [outgoing('echo:{channel}:x')] };
  await t.throwsAsync(side.proxy.apply([invalid]), { code: 'bad-argument' });
  await t.throwsAsync(side.proxy.apply([group, { ...group }]), { code: 'bad-argument' });
  t.deepEqual(side.proxy.options[0]?.template, group.template);
  t.is(await ask(t, join(forwards, 'vm1', 'echo.sock'), 'hello'), 'vm1 hello');
  await machine(t, machines, 'vm2');
  t.is(await ask(t, join(forwards, 'vm2', 'echo.sock'), 'hello'), 'vm2 hello');
});

test('a channel that is asked for itself takes the place of the one that a group made', async (t) => {
  const { machines, group } = setUp(t);
  await machine(t, machines, 'vm1');
  const side = host(t, group);
  await side.start();
  const own = { label: 'vm1', address: `unix-connect:${machines}/vm1.sock`, waitMs: 1 };
  const changes = await side.proxy.apply([own, group]);
  t.deepEqual(changes.replacedChannels, ['vm1']);
  t.is(side.proxy.channel('vm1').group, null);
});

test('a proxy with a group goes on when all its channels have failed for ever', async (t) => {
  const { machines, group } = setUp(t);
  const side = host(t, { ...group, address: `unix-connect:${machines}/*` });
  const reasons: unknown[] = [];
  side.proxy.on('fatal', (reason) => reasons.push(reason));
  await side.start();
  await t.notThrowsAsync(side.proxy.addChannel({ label: 'file', address: `unix-connect:${machines}` }));
  await side.event('channel-failed');
  t.deepEqual(reasons, []);
});

const VALID = { label: 'vms', address: 'unix-connect:/run/vms/*.sock' };

for (const [what, channels] of Object.entries<ChannelOptions[]>({
  'two *': [{ address: 'unix-connect:/run/vms/*-*.sock' }],
  'a * in a folder': [{ address: 'unix-connect:/run/*/vm.sock' }],
  'an option that there is not': [{ address: 'unix-connect:/run/*.sock,size=1' }],
  'a label that is none': [{ ...VALID, label: 'VMs' }],
  'a template that is not valid': [{ ...VALID, template: [outgoing('ssh')] }],
  'forwards in the place of a template': [{ ...VALID, forwards: [parseForwardSpec('outgoing', 'ssh:9022')] }],
  'a label that a channel has': [{ label: 'vms', address: 'unix-connect:/run/vm1.sock' }, VALID],
  'a label that another group has': [VALID, VALID],
  'a template without a *': [{ address: 'unix-connect:/run/vm1.sock', template: [outgoing('ssh:9022')] }],
})) {
  test(`a group with ${what} is refused`, (t) => {
    t.throws(() => new Proxy({ channels, agent: 'test' }), { code: 'bad-argument' });
  });
}

test('a group cannot be added as a channel', async (t) => {
  const proxy = new Proxy({ channels: [], agent: 'test' });
  t.teardown(() => proxy.stop());
  await t.throwsAsync(proxy.addChannel(VALID), { code: 'bad-argument' });
});

test('who waits for a label that a group may bring waits, and is told at once of one that it cannot', async (t) => {
  const { machines, group } = setUp(t);
  const { proxy } = host(t, group);
  await proxy.start();
  await t.throwsAsync(proxy.waitFor({ label: 'default' }, 60_000), { code: 'not-found' });
  const waiting = proxy.waitFor({ label: 'vm1', service: 'echo' }, 60_000);
  await machine(t, machines, 'vm1');
  t.is((await waiting).label, 'vm1');
});
