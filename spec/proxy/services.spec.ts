/** Commands, copies and facts about the machine over a channel: who may use them, under which rules, and when they end. */
import { once } from 'node:events';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import { toVproxyError } from '../../lib/errors.js';
import { parseForwardSpec } from '../../lib/forward/spec.js';
import type { ChannelOptions } from '../../lib/proxy/channel/channel-options.js';
import { Proxy } from '../../lib/proxy/proxy.js';
import { hasBroker, requestFilters } from '../../lib/proxy/services/storage.js';
import { putFiles } from '../../lib/services/copy/copy-call.js';
import { CopyProgress } from '../../lib/services/copy/copy-progress.js';
import { askBoot } from '../../lib/services/info/info-call.js';
import { systemClock } from '../../lib/util/clock.js';
import { ExecCaller } from '../helpers/exec-peers.js';
import { PROJECT_ROOT, staticImports, temporaryFolder } from '../helpers/files.js';
import { type ProxySetup, proxyPair, type TestProxy } from '../helpers/proxies.js';
import { eventually, ManualClock, within } from '../helpers/time.js';
import { isRunning } from '../helpers/vproxy-process.js';

const ANY = { commands: 'any' } as const;

/** A guest with the permissions `here`, and a host; also returns the guest's options, to be changed. */
async function setUp(t: ExecutionContext, here: ProxySetup) {
  const { a, b, path } = await proxyPair(t, { a: { label: 'vm1', ...here }, b: { label: 'host' } });
  const own = { label: 'vm1', address: `unix-listen:${path}`, name: 'a' };
  const apply = (options: Partial<ChannelOptions>) => a.proxy.apply([{ ...own, ...options }]);
  /** Applies other options, and returns the changed rules; the channel stays. */
  const changedBy = async (options: Partial<ChannelOptions>) => {
    const { changedPolicies, replacedChannels } = await apply(options);
    return [...changedPolicies, ...replacedChannels.map((label) => `${label} anew`)];
  };
  return { guest: a, host: b, apply, changedBy };
}

async function call({ proxy }: TestProxy, ...argv: string[]): Promise<ExecCaller> {
  return new ExecCaller(await proxy.connect('exec')).start({ argv, hasInput: false });
}

async function run(proxy: TestProxy, ...argv: string[]) {
  const caller = await call(proxy, ...argv);
  const result = await within(30_000, 'the end of a command', caller.exit);
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

/** A command that runs until it is terminated; a stubborn one, until it is killed. */
async function sleeper(t: ExecutionContext, proxy: TestProxy, { isStubborn = false } = {}) {
  const stubborn = ['sh', '-c', "trap '' TERM HUP; echo ready; while :; do sleep 1000; done"];
  const caller = await call(proxy, ...(isStubborn ? stubborn : ['sleep', '1000']));
  const pid = await caller.started;
  // Before, a signal would end it.
  if (isStubborn) await eventually(() => caller.stdout === 'ready\n');
  t.teardown(() => isRunning(pid) && process.kill(-pid, 'SIGKILL'));
  return { pid, caller };
}

const offeredBy = (proxy: Proxy) =>
  proxy
    .listServices()
    .filter((service) => service.offeredBy === 'here')
    .map(({ service, forward }) => [service, forward]);

// Commands.

test('without permissions neither side may run commands or copy files', async (t) => {
  const { guest, host } = await setUp(t, {});
  for (const side of [guest, host]) {
    t.deepEqual(offeredBy(side.proxy), []);
    t.is(await refusal(side, 'true'), 'unknown-service');
    await t.throwsAsync(side.proxy.connect('copy'), { code: 'unknown-service' });
  }
});

test('the side that allows it runs commands for the other, which runs none in return', async (t) => {
  const { guest, host } = await setUp(t, { exec: ANY, copy: { root: null } });
  const both = [
    ['exec', null],
    ['copy', null],
    ['sftp', null],
  ];
  t.deepEqual([offeredBy(guest.proxy), offeredBy(host.proxy)], [both, []]);
  const { output, result } = await run(host, 'sh', '-c', 'echo out; exit 7');
  t.is(output, 'out\n');
  t.like(result, { status: 7, signal: null, error: null });
  t.is(await refusal(guest, 'true'), 'unknown-service');
  const { fields } = await guest.event('exec-started');
  t.like(fields, { channel: 'vm1', argv: ['sh', '-c', 'echo out; exit 7'] });
});

test('if programs are listed, no other is run', async (t) => {
  const { host } = await setUp(t, { exec: { commands: ['/usr/bin/uname'] } });
  t.is((await run(host, 'uname')).output, 'Linux\n');
  t.is(await refusal(host, 'sh', '-c', 'uname'), 'command-denied');
  t.is(await refusal(host, '/usr/bin/env', 'uname'), 'command-denied');
});

test('service rules apply to each of them', async (t) => {
  const { guest, host } = await setUp(t, {
    ...{ exec: ANY, copy: { root: null }, info: true },
    policies: { exec: { channels: ['vm2'] }, copy: { channels: [] }, info: { isAllowed: false } },
  });
  t.is(await refusal(host, 'true'), 'denied');
  for (const service of ['copy', 'sftp']) await t.throwsAsync(host.proxy.connect(service), { code: 'denied' });
  t.is(await askInfo(host), 'denied: not allowed');
  const denied = guest.all('stream-denied').map(({ fields }) => [fields['channel'], fields['service']].join('/'));
  t.deepEqual(denied, ['vm1/exec', 'vm1/copy', 'vm1/sftp', 'vm1/info']);
});

test('a rule counts a command until it has ended, even if its caller is gone', async (t) => {
  const clock = new ManualClock();
  const { guest, host } = await setUp(t, { exec: ANY, policies: { exec: { streams: 1 } }, clock });
  const { pid, caller } = await sleeper(t, host, { isStubborn: true });
  caller.stream.destroy();
  await eventually(() => guest.proxy.listStreams().length === 0);
  for (let turn = 0; turn < 5; turn += 1) t.is(await refusal(host, 'true'), 'too-many-streams');
  t.true(isRunning(pid));
  await eventually(() => (clock.advance(5000), !isRunning(pid)));
  await eventually(async () => {
    clock.advance(100);
    return (await refusal(host, 'true')) === null;
  });
});

test('commands of earlier permissions count, and those that wait start when the rule allows it', async (t) => {
  const few = { commands: ['/bin/sh', '/usr/bin/uname'] };
  const policies = { exec: { streams: 2 } };
  const { host, apply } = await setUp(t, { exec: ANY, policies });
  await sleeper(t, host);
  await apply({ exec: few, policies });
  await sleeper(t, host, { isStubborn: true });
  for (const exec of [few, ANY]) {
    await apply({ exec, policies });
    t.is(await refusal(host, 'uname'), 'too-many-streams');
  }
  const waiting = new ExecCaller(await host.proxy.connect('exec')).start({
    argv: ['true'],
    hasInput: false,
    wait: true,
  });
  t.is(await refusal(host, 'uname'), 'too-many-streams');
  await apply({ exec: ANY, policies: { exec: { streams: 3 } } });
  t.is((await within(30_000, 'the end of a command', waiting.exit)).status, 0);
});

const BOTH = { exec: ANY, copy: { root: null }, info: true } as const;
const NOBODY = { channels: [] };

for (const [what, others] of [
  ['a permission', {}],
  ['rules that allow it', { ...BOTH, policies: { exec: NOBODY, copy: NOBODY, info: NOBODY } }],
] as const) {
  test(`nothing starts any more without ${what}, not even what waits or was accepted before`, async (t) => {
    await nothingStarts(t, others);
  });
}

async function nothingStarts(t: ExecutionContext, others: Partial<ChannelOptions>): Promise<void> {
  const { guest, host, apply } = await setUp(t, { ...BOTH, policies: { exec: { streams: 1 } } });
  const running = await sleeper(t, host);
  const start = { argv: ['true'], hasInput: false };
  const waiting = new ExecCaller(await host.proxy.connect('exec')).start({ ...start, wait: true });
  t.is(await refusal(host, 'true'), 'too-many-streams');
  const [opened, copying] = [new ExecCaller(await host.proxy.connect('exec')), await host.proxy.connect('copy')];
  const asking = await host.proxy.connect('info');
  const refused = within(30_000, 'the end of a question', once(asking, 'error'));
  await apply(others);
  opened.start(start);
  for (const { exit } of [waiting, opened])
    t.is((await within(30_000, 'the end of a command', exit)).error?.code, 'command-denied');
  const folder = temporaryFolder(t);
  const proxy = { connect: () => Promise.resolve(copying) };
  await t.throwsAsync(put({ proxy }, folder, join(folder, 'copied')), { code: 'denied' });
  t.like(await refused, [{ code: 'denied' }]);
  t.true(isRunning(running.pid));
  t.is(guest.all('exec-started').length, 1);
  t.deepEqual(
    guest.all('exec-refused').map(({ fields }) => fields['reason']),
    ['too many commands running (max 1)', ...Array<string>(2).fill('commands are no longer allowed')],
  );
  await apply(BOTH);
  t.is(await refusal(host, 'true'), null);
}

test('new permissions apply to later calls, and end neither a session nor a command', async (t) => {
  const { guest, host, apply, changedBy } = await setUp(t, { exec: ANY });
  const running = await sleeper(t, host);
  const few = { commands: ['/usr/bin/uname'] };
  t.deepEqual(await changedBy({ exec: few }), ['vm1/exec']);
  t.deepEqual([await refusal(host, 'true'), await refusal(host, 'uname')], ['command-denied', null]);
  t.deepEqual(await changedBy({ exec: few }), []);
  t.deepEqual(await changedBy({ copy: { root: null } }), ['vm1/exec', 'vm1/copy', 'vm1/sftp']);
  t.deepEqual(offeredBy(guest.proxy), [
    ['copy', null],
    ['sftp', null],
  ]);
  t.is(await refusal(host, 'uname'), 'unknown-service');
  t.deepEqual(await changedBy({ exec: ANY }), ['vm1/exec', 'vm1/copy', 'vm1/sftp']);
  t.is(await refusal(host, 'true'), null);
  t.true(isRunning(running.pid));
  t.is(guest.proxy.channel('vm1').history.sessions, 1);

  // The name of an allowed service is taken, and a reload can free it for a forward.
  const forward = parseForwardSpec('incoming', 'exec:tcp:22');
  await t.throwsAsync(guest.proxy.addForward(forward), {
    code: 'bad-argument',
    message: 'service exec is offered twice; a service can have one -i for streams and one for datagrams',
  });
  await t.throwsAsync(apply({ exec: ANY, forwards: [forward] }), {
    code: 'bad-argument',
    message: /service exec is offered twice; --allow-exec offers it, and so does an -i/,
  });
  t.is(await refusal(host, 'true'), null);
  t.deepEqual(await changedBy({ forwards: [forward] }), ['vm1 anew']);
  t.like(offeredBy(guest.proxy), [['exec']]);
  t.deepEqual(await changedBy({ exec: ANY }), ['vm1/exec']);
  t.deepEqual(offeredBy(guest.proxy), [['exec', null]]);
});

for (const [what, end] of [
  ['the proxy is stopped', ({ proxy }: TestProxy) => proxy.stop()],
  ['the channel is removed at once', ({ proxy }: TestProxy) => proxy.removeChannel('vm1', { isDraining: false })],
  ['the channel is gone behind a reload', ({ proxy }: TestProxy) => proxy.apply([])],
] as const) {
  test(`commands end soon when ${what}, even those that ignore TERM`, async (t) => {
    // Without it, SIGKILL would follow after 5 s.
    const clock = new ManualClock();
    const { guest, host } = await setUp(t, { exec: ANY, clock });
    const [one, stubborn] = [await sleeper(t, host), await sleeper(t, host, { isStubborn: true })];
    let isOver = false;
    const ended = Promise.resolve(end(guest)).then(() => (isOver = true));
    await eventually(() => {
      if (clock.now() < 3000) clock.advance(100);
      return isOver && !isRunning(one.pid) && !isRunning(stubborn.pid);
    });
    await ended;
    await t.throwsAsync(stubborn.caller.exit, { code: 'shutdown' });
  });
}

for (const [what, end] of [
  ['a drain', (proxy: Proxy) => proxy.drain()],
  ['the removal of a channel', (proxy: Proxy) => proxy.removeChannel('vm1')],
] as const) {
  test(`${what} waits for commands as it does for streams`, async (t) => {
    const { guest, host } = await setUp(t, { exec: ANY });
    const running = await sleeper(t, host);
    let isOver = false;
    const ended = end(guest.proxy).then(() => (isOver = true));
    await eventually(() => guest.proxy.channel('vm1').state === 'draining');
    t.true(isRunning(running.pid));
    t.false(isOver);
    process.kill(running.pid, 'SIGUSR1');
    t.is((await running.caller.exit).signal, 'SIGUSR1');
    await ended;
  });
}

test('a proxy loads nothing of commands and copies before a channel allows them', (t) => {
  const loaded = [...staticImports([join(PROJECT_ROOT, 'dist/lib/proxy/proxy.js')])];
  const found = loaded.filter((path) => /\/services\/(permitted\.js$|(exec|copy|sftp|info)\/)/.test(path));
  t.is(found.map((path) => path.replace(/.*\/lib\//, '')).join(), 'services/permitted.js');
});

// Copies.

const put = ({ proxy }: { proxy: Pick<Proxy, 'connect'> }, file: string, target: string) =>
  putFiles([file], target, {
    open: () => proxy.connect('copy'),
    isResumed: false,
    hasTotals: false,
    progress: new CopyProgress(),
    warn: () => undefined,
  });

test('the side that allows it accepts files, only into its folder, and under its rules', async (t) => {
  const folder = temporaryFolder(t);
  const [inside, file] = [join(folder, 'in'), join(folder, 'file')];
  mkdirSync(inside);
  writeFileSync(file, 'hello');
  const { guest, host, changedBy } = await setUp(t, { copy: { root: inside } });
  await put(host, file, `${inside}/`);
  t.is(readFileSync(join(inside, 'file'), 'utf8'), 'hello');
  await t.throwsAsync(put(host, file, join(folder, 'outside')), { message: /path not allowed/ });
  await t.throwsAsync(put(guest, file, `${inside}/`), { code: 'unknown-service' });
  t.deepEqual(await changedBy({ copy: { root: null } }), ['vm1/copy', 'vm1/sftp']);
  await put(host, file, join(folder, 'outside'));
  t.is(readFileSync(join(folder, 'outside'), 'utf8'), 'hello');
});

// Facts about the machine.

const INCOMING = parseForwardSpec('incoming', 'info:127.0.0.1:9');
const TO_HOST = 'virtserial-open:org.vproxy.0';
/** Its other side is a QEMU of this machine. */
const PSEUDO_TERMINAL = 'qemu:pty:/dev/pts/3';
/** A device that is no pseudo-terminal, and one that is. */
const LINE = 'tty-open:/dev/null';
const PSEUDO = '/dev/ptmx';

const infoOffers = (address: string, options: Partial<ChannelOptions> = {}) =>
  offeredBy(
    new Proxy({ channels: [{ address, storage: { isAllowed: false }, ...options }], agent: 'vproxy test' }),
  ).map(([service]) => service);

test('by default only channels that lead to a host offer `info`', (t) => {
  for (const address of [TO_HOST, LINE]) t.deepEqual(infoOffers(address), ['info'], address);
  const others = ['unix-listen:/x', 'unix-connect:/x', 'tcp-connect:127.0.0.1:1', 'vsock-connect:2:1', 'pipe-open:/x'];
  for (const address of [...others, PSEUDO_TERMINAL]) t.deepEqual(infoOffers(address), [], address);
  const link = join(temporaryFolder(t), 'vm1.pty');
  symlinkSync(PSEUDO, link);
  for (const path of [link, '/dev/./ptmx', `${link}.none`]) t.deepEqual(infoOffers(`qemu:pty,path=${path}`), [], path);
  t.deepEqual(infoOffers(TO_HOST, { info: false }), []);
  t.deepEqual(infoOffers('unix-listen:/x', { info: true }), ['info']);
  t.notThrows(() => infoOffers(TO_HOST, { forwards: [INCOMING] }), 'an -i of that name takes its place');
  const message = /: service info is offered twice; --info offers it, and so does an -i$/;
  t.throws(() => infoOffers(TO_HOST, { forwards: [INCOMING], info: true }), { code: 'bad-argument', message });
});

test('by default the storage broker runs on channels that lead to a host; requests on any channel with a label get it', (t) => {
  const about = (text: string) => ({ label: 'vm1', address: parseChannel(text) });
  for (const [text, leadsToHost] of [
    [TO_HOST, true],
    [LINE, true],
    [PSEUDO_TERMINAL, false],
    ['unix-connect:/x', false],
  ] as const) {
    t.is(hasBroker(about(text)), leadsToHost, text);
    t.truthy(requestFilters(about(text))('storage'), text);
  }
});

test('strangers get no answer: a channel open to them needs a key', (t) => {
  t.throws(() => infoOffers('tcp-connect:192.0.2.1:7000', { info: true }), {
    code: 'bad-argument',
    message: /--info: the peer could be anybody on the network; give both sides a --key FILE, or this one --insecure$/,
  });
});

/** The answer of the peer of `proxy`: the state of its boot, or a code. */
async function askInfo({ proxy }: TestProxy): Promise<string> {
  try {
    const { systemd } = await askBoot(await proxy.openStream('info'), { clock: systemClock });
    return `told: ${typeof systemd}`;
  } catch (error) {
    const { code, message } = toVproxyError(error);
    return `${code}: ${message}`;
  }
}

test('a reload turns it on and off, or replaces it by an -i, and a refused client learns possible reasons', async (t) => {
  const { guest, host, apply, changedBy } = await setUp(t, {});
  t.is(
    await askInfo(host),
    'unknown-service: the peer does not report on its machine: it does not know this side as its host ' +
      '(use --info there), has --no-info, or is an older vproxy',
  );
  t.deepEqual(await changedBy({ info: true }), ['vm1/info']);
  t.regex(await askInfo(host), /^told: /);
  const streams = () => guest.proxy.listStreams().length + host.proxy.listStreams().length;
  await eventually(() => streams() === 0, { what: 'no stream' });
  await apply({ info: false });
  t.regex(await askInfo(host), /^unknown-service: /);
  t.is(guest.count('session-established'), 1);
  await apply({ forwards: [INCOMING] });
  await eventually(() => host.proxy.listServices().some(({ service }) => service === 'info'), { what: 'the -i' });
  t.is(guest.proxy.listForwards()[0]?.service, 'info');
  await apply({ info: true });
  await eventually(async () => (await askInfo(host)).startsWith('told: '), { what: 'an answer' });
});
