/** Commands over a channel: who may run them, by which rules, and when they end. */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type ErrorCode, toVproxyError } from '../../lib/errors.js';
import type { ExecResult } from '../../lib/exec/exec-messages.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import type { ChannelOptions } from '../../lib/proxy/channel-options.js';
import { type Clock, systemClock } from '../../lib/util/clock.js';
import { ExecCaller, isRunning } from '../helpers/exec-peers.js';
import { PROJECT_ROOT, staticImports, temporaryFolder } from '../helpers/files.js';
import { connectedProxies, type TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock, within } from '../helpers/time.js';

const ANY = { commands: 'any' } as const;

/** A guest that allows what `guest` says, and a host; the guest's options are returned as well, to be changed. */
async function setUp(
  t: ExecutionContext,
  guest: Partial<ChannelOptions>,
  host: Partial<ChannelOptions> = {},
  clock: Clock = systemClock,
) {
  const path = join(temporaryFolder(t), 'channel.sock');
  const { a, b } = await connectedProxies(t, path, { label: 'vm1', clock, ...guest }, { label: 'host', ...host });
  const own: ChannelOptions = { label: 'vm1', address: `unix-listen:${path}`, name: 'a' };
  return { path, guest: a, host: b, own };
}

/** Asks the peer of `proxy` to run a command. */
async function call({ proxy }: TestProxy, ...argv: string[]): Promise<ExecCaller> {
  return new ExecCaller(await proxy.connect('exec')).start({ argv, hasInput: false });
}

async function run(
  proxy: TestProxy,
  ...argv: string[]
): Promise<{ readonly output: string; readonly result: ExecResult }> {
  const caller = await call(proxy, ...argv);
  const result = await within(20_000, 'the end of a command', caller.exit);
  return { output: caller.stdout, result };
}

/** The code with which a command is refused, before or after the service has accepted the stream. */
async function refusal(proxy: TestProxy, ...argv: string[]): Promise<string | null> {
  try {
    return (await run(proxy, ...argv)).result.error?.code ?? null;
  } catch (error) {
    return toVproxyError(error).code;
  }
}

/** A command that runs until it is ended. */
async function sleeper(proxy: TestProxy) {
  const caller = await call(proxy, 'sleep', '1000');
  return { pid: await caller.started, caller };
}

const servicesOf = ({ proxy }: TestProxy) =>
  proxy
    .listServices()
    .filter(({ offeredBy }) => offeredBy === 'here')
    .map(({ service, forward }) => [service, forward]);

test('nobody may run anything where nothing is said, on either side', async (t) => {
  const { guest, host } = await setUp(t, {});
  t.deepEqual([servicesOf(guest), servicesOf(host)], [[], []]);
  t.is(await refusal(host, 'true'), 'unknown-service');
  t.is(await refusal(guest, 'true'), 'unknown-service');
});

test('the side that allows it runs commands for the other one, which runs none for it', async (t) => {
  const { guest, host } = await setUp(t, { exec: ANY });
  t.deepEqual(servicesOf(guest), [['exec', null]]);
  t.deepEqual(servicesOf(host), []);
  const { output, result } = await run(host, 'sh', '-c', 'echo out; exit 7');
  t.is(output, 'out\n');
  t.like(result, { status: 7, signal: null, error: null });
  t.is(await refusal(guest, 'true'), 'unknown-service');
  const { fields } = await guest.event('exec-started');
  t.like(fields, { channel: 'vm1', argv: ['sh', '-c', 'echo out; exit 7'] });
});

test('a command gets a terminal where the caller has one', async (t) => {
  const { host } = await setUp(t, { exec: ANY });
  const terminal = { columns: 91, rows: 17, term: 'xterm' };
  const caller = new ExecCaller(await host.proxy.connect('exec')).start({ argv: ['stty', 'size'], terminal });
  t.like(await within(20_000, 'the end of a command', caller.exit), { status: 0, error: null });
  t.is(caller.stdout, '17 91\r\n');
});

test('commands and copies are listed as services of their own', async (t) => {
  const { guest, host } = await setUp(t, { exec: ANY, copy: { root: null } });
  t.deepEqual(servicesOf(guest), [
    ['exec', null],
    ['copy', null],
  ]);
  await eventually(() =>
    host.proxy.listServices().some(({ service, offeredBy }) => service === 'copy' && offeredBy === 'peer'),
  );
});

test('where programs are listed no other is run', async (t) => {
  const { host } = await setUp(t, { exec: { commands: ['/usr/bin/uname'] } });
  t.is((await run(host, 'uname')).output, 'Linux\n');
  t.is(await refusal(host, 'sh', '-c', 'uname'), 'command-denied');
  t.is(await refusal(host, '/usr/bin/env', 'uname'), 'command-denied');
});

test('rules of services hold: how many at once, and on which channels', async (t) => {
  const one = await setUp(t, { exec: ANY, policies: { exec: { streams: 1, channels: ['vm1'] } } });
  const first = await sleeper(one.host);
  t.is(await refusal(one.host, 'true'), 'denied');
  process.kill(first.pid, 'SIGKILL');
  t.is((await first.caller.exit).signal, 'SIGKILL');
  await eventually(async () => (await refusal(one.host, 'true')) === null);

  const other = await setUp(t, { exec: ANY, copy: { root: null }, policies: { exec: { channels: ['vm2'] } } });
  t.is(await refusal(other.host, 'true'), 'denied');
  t.like((await other.guest.event('stream-denied')).fields, { service: 'exec', channel: 'vm1' });
});

test('a rule counts a command until it has ended, also when its caller has gone', async (t) => {
  const clock = new ManualClock();
  const { guest, host } = await setUp(t, { exec: ANY, policies: { exec: { streams: 1 } } }, {}, clock);
  const stubborn = await call(host, 'sh', '-c', "trap '' TERM HUP; while :; do sleep 1000; done");
  const pid = await stubborn.started;
  t.teardown(() => {
    if (isRunning(pid)) process.kill(-pid, 'SIGKILL');
  });
  stubborn.stream.destroy();
  await eventually(() => guest.proxy.listStreams().length === 0);
  for (let turn = 0; turn < 5; turn += 1) t.is(await refusal(host, 'true'), 'denied');
  t.true(isRunning(pid));

  await eventually(() => {
    clock.advance(5000);
    return !isRunning(pid);
  });
  await eventually(async () => {
    clock.advance(100);
    return (await refusal(host, 'true')) === null;
  });
});

test('other permissions count for the calls to come, and end neither a session nor a command', async (t) => {
  const { guest, host, own } = await setUp(t, { exec: ANY });
  const running = await sleeper(host);
  const changedTo = async (options: Partial<ChannelOptions>) => {
    const changes = await guest.proxy.apply([{ ...own, ...options }]);
    t.deepEqual(changes.replacedChannels, []);
    return changes.changedPolicies;
  };
  t.deepEqual(await changedTo({ exec: { commands: ['/usr/bin/uname'] } }), ['vm1/exec']);
  t.is(await refusal(host, 'true'), 'command-denied');
  t.is(await refusal(host, 'uname'), null);
  t.deepEqual(await changedTo({ exec: { commands: ['/usr/bin/uname'] } }), []);
  t.deepEqual(await changedTo({ copy: { root: null } }), ['vm1/exec', 'vm1/copy']);
  t.deepEqual(servicesOf(guest), [['copy', null]]);
  t.is(await refusal(host, 'uname'), 'unknown-service');
  t.deepEqual(await changedTo({ exec: ANY }), ['vm1/exec', 'vm1/copy']);
  t.is(await refusal(host, 'true'), null);

  t.true(isRunning(running.pid));
  t.is(guest.proxy.channel('vm1').history.sessions, 1);
  await guest.proxy.stop();
  await eventually(() => !isRunning(running.pid));
});

test('the name of a service that is allowed is taken, and free for a forward behind a reload', async (t) => {
  const { guest, own, host } = await setUp(t, { exec: ANY });
  const forward = parseForwardSpec('incoming', 'exec:22');
  await t.throwsAsync(guest.proxy.addForward(forward), {
    code: 'bad-argument',
    message: 'service exec is offered twice; each service has one -i for streams, and one for datagrams',
  });
  await t.throwsAsync(guest.proxy.apply([{ ...own, exec: ANY, forwards: [forward] }]), {
    code: 'bad-argument',
    message: /service exec is offered twice; --allow-exec offers it, and so does an -i/,
  });
  t.is(await refusal(host, 'true'), null);
  t.deepEqual((await guest.proxy.apply([{ ...own, forwards: [forward] }])).replacedChannels, ['vm1']);
  t.deepEqual(
    servicesOf(guest).map(([service]) => service),
    ['exec'],
  );
  t.deepEqual((await guest.proxy.apply([{ ...own, exec: ANY }])).changedPolicies, ['vm1/exec']);
  t.deepEqual(servicesOf(guest), [['exec', null]]);
});

const ENDS: Readonly<Record<string, (guest: TestProxy) => Promise<unknown>>> = {
  'the proxy is stopped': (guest: TestProxy) => guest.proxy.stop(),
  'the channel is removed at once': (guest: TestProxy) => guest.proxy.removeChannel('vm1', { isDraining: false }),
  'the channel is gone behind a reload': (guest: TestProxy) => guest.proxy.apply([]),
};

for (const [what, end] of Object.entries(ENDS)) {
  test(`commands end soon when ${what}, also those that ignore TERM`, async (t) => {
    const { guest, host } = await setUp(t, { exec: ANY });
    const stubborn = await call(host, 'sh', '-c', "trap '' TERM HUP; while :; do sleep 1000; done");
    const pids = [(await sleeper(host)).pid, await stubborn.started];
    // Otherwise SIGKILL would come after 5 s.
    await within(3_000, 'the end', end(guest));
    await eventually(() => !pids.some(isRunning), { timeoutMs: 1_000 });
    await t.throwsAsync(stubborn.exit, { code: 'shutdown' satisfies ErrorCode });
  });
}

for (const [what, drain] of [
  ['a drain', (guest: TestProxy) => guest.proxy.drain()],
  ['the removal of a channel', (guest: TestProxy) => guest.proxy.removeChannel('vm1')],
] as const) {
  test(`${what} waits for commands as it does for streams`, async (t) => {
    const { guest, host } = await setUp(t, { exec: ANY });
    const running = await sleeper(host);
    let isOver = false;
    const drained = drain(guest).then(() => (isOver = true));
    await eventually(() => guest.proxy.channel('vm1').state === 'draining');
    t.true(isRunning(running.pid));
    t.false(isOver);
    process.kill(running.pid, 'SIGUSR1');
    t.is((await running.caller.exit).signal, 'SIGUSR1');
    await drained;
  });
}

test('a proxy loads nothing of commands and copies before a channel allows them', (t) => {
  const loaded = [...staticImports([join(PROJECT_ROOT, 'dist/lib/proxy/proxy.js')])];
  t.true(loaded.some((path) => path.endsWith('/services/built-in.js')));
  t.deepEqual(
    loaded.filter((path) => /\/lib\/(exec|copy)\//.test(path)),
    [],
  );
});
