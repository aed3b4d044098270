/** A group of channels by itself: what it adds and removes as the files of its folder come and go. */
import { once } from 'node:events';
import { chmodSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { VproxyError } from '../../../lib/errors.js';
import type { LogEvent } from '../../../lib/events.js';
import { formatForwardSpec } from '../../../lib/forward/spec.js';
import type { ChannelOptions } from '../../../lib/proxy/channel-options.js';
import { ChannelGroup } from '../../../lib/proxy/groups/channel-group.js';
import type { ChannelStatus } from '../../../lib/status/types.js';
import { temporaryFolder } from '../../helpers/files.js';
import { eventually, ManualClock } from '../../helpers/time.js';

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
