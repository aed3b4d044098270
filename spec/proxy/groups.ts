/** Groups of channels, within proxies and by themselves: sockets that appear and disappear, and templates that change. */
import { once } from 'node:events';
import { chmodSync, existsSync, mkdirSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../lib/errors.js';
import type { LogEvent } from '../../lib/events.js';
import { formatForwardSpec } from '../../lib/forward/spec.js';
import type { ForwardTemplate, ParsedOptions } from '../../lib/proxy/channel/channel-options.js';
import { ChannelGroup } from '../../lib/proxy/groups/channel-group.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import type { ChannelStatus } from '../../lib/status/types.js';
import { temporaryFolder } from '../helpers/files.js';
import { answerTo, ask as askAt, echo, localServer, openEcho, startProxy } from '../helpers/proxies.js';
import { eventually, ManualClock } from '../helpers/time.js';

/** A machine `vm1` in a folder, and a host with a group of that folder, whose forwards are in another folder. */
async function setUp(t: ExecutionContext, ...forwards: readonly string[]) {
  const folder = temporaryFolder(t);
  const at = (...names: readonly string[]) => join(folder, ...names);
  const target = await localServer(t, echo);
  const machine = (name: string, machines = 'vms') =>
    startProxy(t, `unix-listen:${at(machines, name)}.sock`, { name, incoming: [`echo:${target.port}`] });
  for (const name of ['vms', 'others']) mkdirSync(at(name));
  const groupOf = (texts: readonly string[], machines = 'vms') => ({
    label: 'vms',
    address: `unix-connect:${at(machines)}/*.sock`,
    template: texts.map((text): ForwardTemplate => ({ direction: 'outgoing', text: `echo:${at(text)}.sock` })),
  });
  const group = groupOf(forwards);
  const vm1 = await machine('vm1');
  const host = await startProxy(t, group.address, group);
  const labels = () => host.proxy.listChannels().map(({ label }) => label);
  /** Sends hello to a socket, which may be about to appear, and returns the answer. */
  const ask = async (path: string): Promise<string> => {
    await eventually(() => existsSync(at(path)), { what: path });
    return askAt(t, at(path));
  };
  return { at, machine, groupOf, vm1, host, labels, ask };
}

test('a new machine gets forwards of its own, which are removed with it', async (t) => {
  const { at, machine, vm1, host, labels, ask } = await setUp(t, 'out/{channel}/echo');
  t.like(host.proxy.listChannels(), [{ label: 'vm1', group: 'vms' }]);
  await machine('vm2');
  for (const name of ['vm1', 'vm2']) {
    t.is(await ask(`out/${name}/echo.sock`), 'hello');
    t.is(statSync(at('out', name)).mode & 0o777, 0o700);
    t.is(host.proxy.channel(name).session?.peer.name, name);
  }
  await vm1.proxy.stop();
  await eventually(() => labels().length === 1 && !existsSync(at('out/vm1')));
  t.is(await ask('out/vm2/echo.sock'), 'hello');
  t.true(host.events.some(({ message }) => message.startsWith('vms: channel vm1 removed: ')));
  await host.proxy.stop();
  t.false(existsSync(at('out/vm2')));
});

test('a machine whose socket is removed keeps its channel and streams while it runs, and gets new forwards', async (t) => {
  const { at, machine, groupOf, vm1, host, labels } = await setUp(t, '{channel}');
  const socket = await openEcho(t, at('vm1.sock'));
  // The file only: connections stay.
  rmSync(at('vms/vm1.sock'));
  await machine('vm2');
  await eventually(() => labels().includes('vm2'));
  await host.proxy.apply([groupOf(['{channel}', 'more/{channel}'])]);
  t.is(await answerTo(socket, 'still'), 'still');
  t.true(existsSync(at('more/vm1.sock')));
  await vm1.proxy.stop();
  await eventually(() => !labels().includes('vm1'));
});

test('a symbolic link that replaces a socket is not followed', async (t) => {
  const { at, vm1, host, labels } = await setUp(t);
  let connections = 0;
  await localServer(t, () => (connections += 1), { path: at('others/service.sock') });
  await host.event('session-established');
  symlinkSync(at('others/service.sock'), at('vms/vm2.sock'));
  await vm1.proxy.stop();
  rmSync(at('vms/vm1.sock'), { force: true });
  symlinkSync(at('others/service.sock'), at('vms/vm1.sock'));
  await eventually(() => host.count('group-skipped') === 2, { what: 'two lines' });
  await eventually(() => labels().length === 0, { what: 'no channel' });
  t.is(connections, 0);
});

test('a reload changes the forwards, the folder and the members of a group; what is unchanged stays', async (t) => {
  const { at, machine, groupOf, host, labels, ask } = await setUp(t, 'kept', 'out/old');
  const { proxy } = host;
  const socket = await openEcho(t, at('kept.sock'));
  const same = await proxy.apply(proxy.options);
  t.deepEqual(Object.values(same).flat(), []);
  const changed = groupOf(['kept', 'new/{channel}']);
  t.deepEqual(await proxy.apply([changed]), {
    ...same,
    addedForwards: [`-o vm1/echo:unix:${at('new/vm1.sock')}`],
    removedForwards: [`-o vm1/echo:unix:${at('out/old.sock')}`],
  });
  t.is(await ask('new/vm1.sock'), 'hello');
  t.false(existsSync(at('out/old.sock')));
  t.is(await answerTo(socket, 'still'), 'still');
  t.is(proxy.channel('vm1').history.sessions, 1);
  t.like(proxy.options, [{ label: 'vms', template: changed.template }]);

  await machine('vm9', 'others');
  t.deepEqual((await proxy.apply([groupOf(['new/{channel}'], 'others')])).removedChannels, ['vm1']);
  t.deepEqual(labels(), ['vm9']);
  t.is(await ask('new/vm9.sock'), 'hello', 'channels to come have the new forwards');

  const own = { label: 'vm9', address: `unix-connect:${at('others/vm9.sock')}`, waitMs: 1 };
  t.deepEqual((await proxy.apply([own, groupOf([], 'others')])).replacedChannels, ['vm9']);
  t.is(proxy.channel('vm9').group, null);
  const plain = { label: 'vm2', address: `unix-connect:${at('vms/vm2.sock')}` };
  t.like(await proxy.apply([plain]), { removedChannels: ['vm9'], addedChannels: ['vm2'] });
  await machine('vm3', 'others');
  await machine('vm2');
  await eventually(() => proxy.channel('vm2').session !== null);
  t.deepEqual([labels(), proxy.options], [['vm2'], [{ ...plain, forwards: [] }]]);
  t.false(existsSync(at('new')));
});

test('a proxy with a group continues when all its channels have failed for good', async (t) => {
  const { at, vm1, host, labels } = await setUp(t);
  host.proxy.on('fatal', () => t.fail('it ends'));
  await vm1.proxy.stop();
  await eventually(() => labels().length === 0);
  await host.proxy.addChannel({ label: 'folder', address: `unix-connect:${at('others')}` });
  await host.event('channel-failed');
  t.deepEqual(labels(), ['folder']);
});

test('a group with a taken label is refused, as is one added as a channel', async (t) => {
  const group = { label: 'vms', address: 'unix-connect:/run/vms/*.sock' };
  for (const other of [{ label: 'vms', address: 'unix-connect:/run/vm1.sock' }, group])
    t.throws(() => new Proxy({ channels: [other, group], agent: 'test' }), { code: 'bad-argument' });
  const proxy = new Proxy({ channels: [], agent: 'test' });
  t.teardown(() => proxy.stop());
  await t.throwsAsync(proxy.addChannel(group), { code: 'bad-argument' });
});

test('waiting for a label that a group may add waits, and fails at once for one that it cannot', async (t) => {
  const { machine, host } = await setUp(t);
  await t.throwsAsync(host.proxy.waitFor({ label: 'default' }, 60_000), { code: 'not-found' });
  const waiting = host.proxy.waitFor({ label: 'vm2', service: 'echo' }, 60_000);
  await machine('vm2');
  t.is((await waiting).label, 'vm2');
});

// A group by itself: what it adds and removes as files appear and disappear in its folder.

/** Longer than a group waits before it reads its folder without an event. */
const RESCAN_MS = 5000;

/** A group with a host that only records calls, and the folder that it watches. */
class Setup {
  readonly t: ExecutionContext;
  readonly folder: string;
  readonly clock = new ManualClock();
  readonly events: LogEvent[] = [];
  readonly added: ParsedOptions[] = [];
  readonly removed: string[] = [];
  readonly channels = new Map<string, { group: string | null; state: string; session: object | null }>();
  /** Why no channel can be added. */
  failure: VproxyError | null = null;
  readonly group: ChannelGroup;

  constructor(t: ExecutionContext, folder = temporaryFolder(t)) {
    this.t = t;
    this.folder = folder;
    const template = [{ direction: 'outgoing', text: 'ssh:/run/{channel}/ssh.sock' }] as const;
    const options = { label: 'vms', address: `unix-connect:${folder}/*.sock,frame=8192`, waitMs: 7, template };
    this.group = new ChannelGroup(
      { options, members: new Map() },
      {
        find: (label) => (this.channels.get(label) as ChannelStatus | undefined) ?? null,
        add: (options) => {
          if (this.failure !== null) return Promise.reject(this.failure);
          this.added.push(options);
          this.channels.set(options.label, { group: 'vms', state: 'opening', session: null });
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

  at(label: string): string {
    return join(this.folder, `${label}.sock`);
  }

  async socket(label: string): Promise<net.Server> {
    const server = net.createServer().listen(this.at(label));
    this.t.teardown(() => server.close());
    await once(server, 'listening');
    return server;
  }

  /** Lets time pass until a condition holds. */
  async passes(condition: () => boolean): Promise<void> {
    await eventually(() => condition() || (this.clock.advance(RESCAN_MS), false), { what: condition.toString() });
  }

  /** Has the folder read twice, shown by the channels of new sockets. */
  async rescans(): Promise<void> {
    for (const probe of ['a', 'b'].map((letter) => `probe-${this.added.length}${letter}`)) {
      const server = await this.socket(probe);
      await this.passes(() => this.channels.has(probe));
      server.close();
      this.channels.delete(probe);
    }
  }

  /** Waits for the effect of an event, for less time than until the periodic read of the folder. */
  async soon(condition: () => boolean): Promise<void> {
    const untilMs = this.clock.now() + RESCAN_MS;
    await eventually(() => (this.clock.advance(10), condition()), { what: condition.toString() });
    if (this.clock.now() >= untilMs) throw new Error('it came by a look at the folder');
  }

  lines(event: string): string[] {
    return this.events.filter((logged) => logged.event === event).map(({ message }) => message);
  }
}

async function withVm1(t: ExecutionContext) {
  const setup = new Setup(t);
  const server = await setup.socket('vm1');
  await setup.group.start();
  return { setup, server };
}

test('sockets get channels in the order of their names; others are reported once, unless hidden', async (t) => {
  const setup = new Setup(t);
  // So many that the right order is hardly a coincidence.
  const labels = Array.from({ length: 80 }, (_, index) => `vm-${10 + index}.x`);
  const noLabels = ['VM1', 'a b', '-rf', 'default', 'x'.repeat(65), 'a\nb', 'ä'];
  for (const name of [...labels.toReversed(), ...noLabels, '.hidden', '..x']) await setup.socket(name);
  for (const name of ['vm.sock.tmp', 'other']) await localServer(t, echo, { path: join(setup.folder, name) });
  writeFileSync(setup.at('file'), '');
  mkdirSync(setup.at('folder'));
  symlinkSync('gone', setup.at('dangling'));
  symlinkSync('vm-10.x.sock', setup.at('link'));
  await setup.group.start();
  const [first] = setup.added;
  t.deepEqual(
    { ...first, address: first?.address.text, forwards: first?.forwards?.map((spec) => formatForwardSpec(spec)) },
    {
      ...{ label: 'vm-10.x', group: 'vms', waitMs: 7, forwards: ['ssh:unix:/run/vm-10.x/ssh.sock'] },
      address: `unix-connect:${setup.folder}/vm-10.x.sock,frame=8192`,
    },
  );
  const added = setup.added.map(({ label }) => label);
  t.deepEqual(added, labels);
  await setup.rescans();
  const lines = setup.lines('group-skipped');
  t.is(lines.length, noLabels.length + 2, lines.join('\n'));
  for (const line of lines) t.regex(line, /^vms: no channel for [^\n]*: [^\n]*(label|symbolic)[^\n]*$/);
  const followed = `vms: no channel for ${setup.at('link')}: it is a symbolic link, which groups do not follow`;
  t.true(lines.includes(followed) && lines.includes(followed.replace('link', 'dangling')));
});

test('an event makes a group read its folder at once; a stopped group does nothing', async (t) => {
  const setup = new Setup(t);
  await setup.group.start();
  const server = await setup.socket('vm1');
  await setup.soon(() => setup.channels.has('vm1'));
  server.close();
  await setup.soon(() => setup.removed.includes('vm1'));
  setup.group.stop();
  setup.group.look();
  t.is(setup.clock.pending, 0);
});

test('lines about files without a channel are rate-limited, and suppressed ones are counted', async (t) => {
  const setup = new Setup(t);
  for (let index = 0; index < 500; index += 1) symlinkSync('gone', setup.at(`vm${index}`));
  await setup.group.start();
  const told = setup.lines('group-skipped').length;
  t.true(told > 10 && told < 100, `${told}`);
  setup.clock.advance(1000);
  t.deepEqual(setup.lines('log-limited'), [
    `vms: ${500 - told} more group-skipped lines suppressed within 1.0 s: too many`,
  ]);
});

test('a taken label causes one warning, and gets its channel when it is free', async (t) => {
  const setup = new Setup(t);
  setup.failure = new VproxyError('bad-argument', 'channel vm1 already exists');
  await setup.socket('vm1');
  await setup.group.start();
  for (const until of [1, 2].map((turn) => turn * RESCAN_MS)) await setup.passes(() => setup.clock.now() >= until);
  setup.failure = null;
  await setup.passes(() => setup.channels.has('vm1'));
  t.deepEqual(setup.lines('group-skipped'), [`vms: no channel for ${setup.at('vm1')}: channel vm1 already exists`]);
});

test('a folder that is missing, not a folder, or recreated is reported once each time, and read when possible', async (t) => {
  const folder = join(temporaryFolder(t), 'run', 'vms');
  const setup = new Setup(t, folder);
  const appears = async (label: string) => {
    await setup.socket(label);
    await setup.passes(() => setup.channels.has(label));
  };
  await setup.group.start();
  await setup.passes(() => setup.clock.now() >= 3 * RESCAN_MS);
  mkdirSync(folder, { recursive: true });
  await appears('vm1');
  rmSync(folder, { recursive: true });
  await setup.passes(() => setup.removed.includes('vm1') && setup.lines('group-waiting').length === 2);
  t.deepEqual(new Set(setup.lines('group-waiting')), new Set([`vms: waiting for the folder ${folder}`]));
  writeFileSync(folder, '');
  const since = setup.clock.now();
  await setup.passes(() => setup.lines('group-failed').length > 0 && setup.clock.now() >= since + 3 * RESCAN_MS);
  t.deepEqual(setup.lines('group-failed'), [`vms: cannot read ${folder}: not a directory (ENOTDIR)`]);
  rmSync(folder);
  mkdirSync(folder);
  await appears('vm2');
  // The current folder is the one that is watched.
  await setup.socket('vm3');
  await setup.soon(() => setup.channels.has('vm3'));
});

for (const comesBack of [false, true]) {
  const what = comesBack ? 'comes back before its session has ended' : 'has gone stays until its session has ended';
  test(`a channel whose socket ${what}${comesBack ? ' stays' : ''}`, async (t) => {
    const { setup, server } = await withVm1(t);
    const channel = { group: 'vms', state: 'established', session: {} as object | null };
    setup.channels.set('vm1', channel);
    server.close();
    await setup.rescans();
    if (comesBack) await setup.socket('vm1');
    await setup.rescans();
    t.deepEqual(setup.removed, []);
    channel.session = null;
    setup.group.sessionChanged('vm1');
    if (comesBack) await setup.rescans();
    else await setup.soon(() => setup.removed.includes('vm1'));
    t.deepEqual(setup.removed, comesBack ? [] : ['vm1']);
  });
}

test('a permanently failed channel is restarted when its socket is replaced, or gets another mode', async (t) => {
  const { setup } = await withVm1(t);
  const failed = { group: 'vms', state: 'failed', session: null };
  setup.channels.set('vm1', failed);
  await setup.rescans();
  t.deepEqual(setup.removed, [], 'nothing has changed');
  chmodSync(setup.at('vm1'), 0o666);
  await setup.passes(() => setup.channels.get('vm1') !== failed);
  setup.channels.set('vm1', failed);
  await setup.socket('new');
  renameSync(setup.at('new'), setup.at('vm1'));
  await setup.passes(() => setup.channels.get('vm1') !== failed);
  t.deepEqual(setup.removed.filter((label) => label === 'vm1').length, 2);
});

test('a channel removed by a user comes back only with the next socket; a channel of another group is not touched', async (t) => {
  const { setup, server } = await withVm1(t);
  const other = await setup.socket('vm2');
  await setup.passes(() => setup.channels.has('vm2'));
  setup.channels.delete('vm1');
  setup.channels.set('vm2', { group: null, state: 'failed', session: null });
  for (const label of ['vm1', 'vm2']) chmodSync(setup.at(label), 0o666);
  await setup.rescans();
  t.false(setup.channels.has('vm1'));
  for (const gone of [server, other]) gone.close();
  await setup.rescans();
  await setup.socket('vm1');
  await setup.passes(() => setup.channels.has('vm1'));
  t.deepEqual(setup.removed, []);
});
