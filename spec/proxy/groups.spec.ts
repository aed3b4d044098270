/** Groups of channels in whole proxies, and by themselves: sockets that come and go, and templates that change. */
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import type { LogEvent } from '../../lib/events.js';
import { formatForwardSpec } from '../../lib/forward/spec.js';
import type { ChannelOptions, ForwardTemplate } from '../../lib/proxy/channel-options.js';
import { ChannelGroup } from '../../lib/proxy/groups/channel-group.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { temporaryFolder } from '../helpers/files.js';
import { answerTo, ask as askAt, echo, localServer, openEcho, startProxy, TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

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

// A group by itself: what it adds and removes as the files of its folder come and go.

/** Longer than a group waits before it reads its folder without an event. */
const RESCAN_MS = 5000;

/** A group with a host that only records calls, and the folder that it watches. */
class Setup {
  readonly folder: string;
  readonly clock = new ManualClock();
  readonly events: LogEvent[] = [];
  readonly added: ChannelOptions[] = [];
  readonly removed: string[] = [];
  readonly channels = new Map<string, { group: string | null; state: string; session: object | null }>();
  readonly failures = new Map<string, VproxyError>();
  readonly group: ChannelGroup;
  readonly #t: ExecutionContext;
  readonly #name: string;

  constructor(t: ExecutionContext, name = '*.sock', folder = temporaryFolder(t)) {
    this.#t = t;
    this.#name = name;
    this.folder = folder;
    const template = [{ direction: 'outgoing', text: 'ssh:/run/{channel}/ssh.sock' }] as const;
    const options = { label: 'vms', address: `unix-connect:${folder}/${name},frame=8192`, waitMs: 7, template };
    this.group = new ChannelGroup(
      { options, members: new Map() },
      {
        find: (label) => (this.channels.get(label) as ChannelStatus | undefined) ?? null,
        add: (options) => {
          const { label = '' } = options;
          const failure = this.failures.get(label);
          if (failure !== undefined) return Promise.reject(failure);
          this.added.push(options);
          this.channels.set(label, { group: 'vms', state: 'opening', session: null });
          return Promise.resolve();
        },
        remove: (label) => {
          this.removed.push(label);
          this.channels.delete(label);
          return Promise.resolve();
        },
        log: (event) => this.events.push(event),
      },
      this.clock,
    );
    t.teardown(() => this.group.stop());
  }

  async socket(name: string): Promise<net.Server> {
    const server = net.createServer().listen(join(this.folder, name));
    this.#t.teardown(() => server.close());
    await once(server, 'listening');
    return server;
  }

  /** Lets time pass until a condition holds. */
  async passes(condition: () => boolean): Promise<void> {
    await eventually(
      () => {
        if (condition()) return true;
        this.clock.advance(RESCAN_MS);
        return false;
      },
      { what: condition.toString() },
    );
  }

  /** Lets the folder be read twice, by sockets whose channels show that it was. */
  async rescans(): Promise<void> {
    for (const probe of ['a', 'b'].map((letter) => `probe-${this.added.length}${letter}`)) {
      const server = await this.socket(this.#name.replace('*', probe));
      await this.passes(() => this.channels.has(probe));
      server.close();
      this.channels.delete(probe);
    }
  }

  /** Waits for what an event brings, sooner than the folder is read without one. */
  async soon(condition: () => boolean): Promise<void> {
    const untilMs = this.clock.now() + RESCAN_MS;
    await eventually(() => (this.clock.advance(10), condition()), { what: condition.toString() });
    if (this.clock.now() >= untilMs) throw new Error('it came by a look at the folder');
  }

  get labels(): (string | undefined)[] {
    return this.added.map(({ label }) => label);
  }

  lines(event: string): string[] {
    return this.events.filter((logged) => logged.event === event).map(({ message }) => message);
  }
}

async function withVm1(t: ExecutionContext) {
  const setup = new Setup(t);
  const server = await setup.socket('vm1.sock');
  await setup.group.start();
  return { setup, server };
}

test('the sockets that are there have channels when a group has started', async (t) => {
  const setup = new Setup(t);
  await setup.socket('vm1.sock');
  await setup.socket('vm-2.x.sock');
  await setup.group.start();
  const channels = setup.added.map(({ forwards = [], ...rest }) => ({
    ...rest,
    forwards: forwards.map((spec) => formatForwardSpec(spec)),
  }));
  const common = { group: 'vms', waitMs: 7 };
  t.deepEqual(
    channels,
    ['vm-2.x', 'vm1'].map((label) => ({
      ...common,
      label,
      address: `unix-connect:${setup.folder}/${label}.sock,frame=8192`,
      forwards: [`ssh:unix:/run/${label}/ssh.sock`],
    })),
  );
});

test('channels of sockets that are found together are in the order of the names', async (t) => {
  const setup = new Setup(t);
  // So many that the system hardly answers for all of them in any order by chance.
  const labels = Array.from({ length: 80 }, (_, index) => `vm${10 + index}`);
  for (const label of labels.toReversed()) await setup.socket(`${label}.sock`);
  await setup.group.start();
  t.deepEqual(setup.labels, labels);
});

test('an event makes a group read its folder at once', async (t) => {
  const setup = new Setup(t);
  await setup.group.start();
  const server = await setup.socket('vm1.sock');
  await setup.soon(() => setup.channels.has('vm1'));
  server.close();
  await setup.soon(() => setup.removed.includes('vm1'));
  t.deepEqual(setup.removed, ['vm1']);
});

test('only sockets whose names fit get channels', async (t) => {
  const setup = new Setup(t, 'vm-*.sock');
  writeFileSync(join(setup.folder, 'vm-file.sock'), '');
  mkdirSync(join(setup.folder, 'vm-folder.sock'));
  symlinkSync('gone', join(setup.folder, 'vm-dangling.sock'));
  symlinkSync('vm-1.sock', join(setup.folder, 'vm-link.sock'));
  for (const name of ['vm-1.sock', 'vm-.sock', 'vm-2.sock.tmp', 'other.sock', 'vm-.hidden.sock'])
    await setup.socket(name);
  await setup.group.start();
  t.deepEqual(setup.labels, ['1']);
  t.deepEqual(
    setup.lines('group-skipped').filter((line) => line.includes('symbolic')),
    ['dangling', 'link'].map(
      (name) =>
        `vms: ${setup.folder}/vm-${name}.sock gets no channel: it is a symbolic link, which a group does not follow`,
    ),
  );
});

test('lines about what gets no channel are bounded, and those that are missing are counted', async (t) => {
  const setup = new Setup(t);
  for (let index = 0; index < 500; index += 1) symlinkSync('gone', join(setup.folder, `vm${index}.sock`));
  await setup.group.start();
  const told = setup.lines('group-skipped').length;
  t.true(told > 10 && told < 100, `${told}`);
  setup.clock.advance(1000);
  t.deepEqual(setup.lines('log-limited'), [
    `vms: and ${500 - told} more lines of the kind group-skipped were left out within 1.0 s: they came too fast`,
  ]);
});

test('a socket whose name makes no label is skipped with one line, and a hidden one without', async (t) => {
  const setup = new Setup(t, '*');
  const names = ['VM1', 'a b', '-rf', '..x', 'default', 'x'.repeat(65), 'a\nb', 'ä'];
  for (const name of [...names, '.vm1']) await setup.socket(name);
  await setup.group.start();
  await setup.rescans();
  t.is(setup.added.length, 2, 'the probes');
  const lines = setup.lines('group-skipped');
  t.is(lines.length, names.filter((name) => !name.startsWith('.')).length, lines.join('\n'));
  for (const line of lines) t.regex(line, /^vms: [^\n]* gets no channel: [^\n]*label[^\n]*$/);
});

test('a label that is taken is one warning, and has its channel when it is free', async (t) => {
  const setup = new Setup(t);
  setup.failures.set('vm1', new VproxyError('bad-argument', 'channel vm1 is there already'));
  await setup.socket('vm1.sock');
  await setup.group.start();
  await setup.rescans();
  t.deepEqual(setup.lines('group-skipped'), [
    `vms: ${setup.folder}/vm1.sock gets no channel: channel vm1 is there already`,
  ]);
  setup.failures.clear();
  await setup.passes(() => setup.channels.has('vm1'));
  t.is(setup.lines('group-skipped').length, 1);
});

test('a folder that cannot be read is one line, and is read when it can be', async (t) => {
  const folder = join(temporaryFolder(t), 'vms');
  writeFileSync(folder, '');
  const setup = new Setup(t, '*.sock', folder);
  await setup.group.start();
  await setup.passes(() => setup.clock.now() >= 3 * RESCAN_MS);
  t.deepEqual(setup.lines('group-failed'), [`vms: cannot read ${folder}: a part of the path is no folder (ENOTDIR)`]);
  rmSync(folder);
  mkdirSync(folder);
  await setup.socket('vm1.sock');
  await setup.passes(() => setup.channels.has('vm1'));
});

test('a folder that is not there yet, or is removed and made again, is read when it is there', async (t) => {
  const folder = join(temporaryFolder(t), 'run', 'vms');
  const setup = new Setup(t, '*.sock', folder);
  await setup.group.start();
  await setup.passes(() => setup.clock.now() >= 3 * RESCAN_MS);
  t.deepEqual(setup.lines('group-waiting'), [`vms: waiting for the folder ${folder}`]);

  mkdirSync(folder, { recursive: true });
  await setup.socket('vm1.sock');
  await setup.passes(() => setup.channels.has('vm1'));

  rmSync(folder, { recursive: true });
  await setup.passes(() => setup.removed.includes('vm1'));
  await setup.passes(() => setup.lines('group-waiting').length === 2);
  mkdirSync(folder);
  await setup.socket('vm2.sock');
  await setup.passes(() => setup.channels.has('vm2'));

  // The folder that exists now is the one that is watched.
  await setup.socket('vm3.sock');
  await setup.soon(() => setup.channels.has('vm3'));
});

for (const comesBack of [false, true]) {
  const what = comesBack
    ? 'comes back before its session has ended stays'
    : 'has gone stays until its session has ended';
  test(`a channel whose socket ${what}`, async (t) => {
    const { setup, server } = await withVm1(t);
    const channel = { group: 'vms', state: 'established', session: {} as object | null };
    setup.channels.set('vm1', channel);
    server.close();
    await setup.rescans();
    if (comesBack) await setup.socket('vm1.sock');
    await setup.rescans();
    t.deepEqual(setup.removed, []);
    channel.session = null;
    setup.group.sessionChanged('vm1');
    if (comesBack) await setup.rescans();
    else await setup.soon(() => setup.removed.includes('vm1'));
    t.deepEqual(setup.removed, comesBack ? [] : ['vm1']);
  });
}

test('a channel that failed for ever is begun anew when its socket is another one, or has another mode', async (t) => {
  const { setup } = await withVm1(t);
  setup.channels.set('vm1', { group: 'vms', state: 'failed', session: null });
  await setup.rescans();
  t.deepEqual(setup.removed, [], 'nothing has changed');

  chmodSync(join(setup.folder, 'vm1.sock'), 0o666);
  await setup.passes(() => setup.channels.get('vm1')?.state === 'opening');
  setup.channels.set('vm1', { group: 'vms', state: 'failed', session: null });
  await setup.socket('new');
  renameSync(join(setup.folder, 'new'), join(setup.folder, 'vm1.sock'));
  await setup.passes(() => setup.channels.get('vm1')?.state === 'opening');
  t.deepEqual(setup.removed, ['vm1', 'vm1']);
});

test('a channel that somebody removed by hand comes back with the next socket only', async (t) => {
  const { setup, server } = await withVm1(t);
  setup.channels.delete('vm1');
  chmodSync(join(setup.folder, 'vm1.sock'), 0o666);
  await setup.rescans();
  t.false(setup.channels.has('vm1'));
  server.close();
  await setup.rescans();
  await setup.socket('vm1.sock');
  await setup.passes(() => setup.channels.has('vm1'));
  t.deepEqual(setup.removed, []);
});

test('the channel of somebody else is not touched', async (t) => {
  const { setup, server } = await withVm1(t);
  setup.channels.set('vm1', { group: null, state: 'failed', session: null });
  chmodSync(join(setup.folder, 'vm1.sock'), 0o666);
  await setup.rescans();
  server.close();
  await setup.rescans();
  t.deepEqual(setup.removed, []);
});

test('a group that was stopped does nothing any more, and leaves no timer', async (t) => {
  const setup = new Setup(t);
  await setup.group.start();
  setup.group.stop();
  t.is(setup.clock.pending, 0);
  setup.group.look();
  t.is(setup.clock.pending, 0);
});
