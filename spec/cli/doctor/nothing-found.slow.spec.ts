/** Cases in which `vproxy doctor` must not find anything, or in which its check must be exact. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type Diagnosis, formatSummary } from '../../../cli/doctor/diagnosis.js';
import type { Finding } from '../../../cli/doctor/findings.js';
import { checkTcpConnect } from '../../../cli/doctor/locations/tcp-address.js';
import { checkUnixSocket } from '../../../cli/doctor/locations/unix-socket.js';
import { checkVirtioPorts } from '../../../cli/doctor/locations/virtio-port.js';
import type { Machine } from '../../../cli/doctor/machine.js';
import { lookAtPath } from '../../../cli/doctor/path.js';
import { planJobs, runDoctor } from '../../../cli/doctor/plan.js';
import { checkChannel } from '../../../cli/doctor/subjects/channel.js';
import { checkProxySettings } from '../../../cli/doctor/subjects/egress.js';
import { parseChannel } from '../../../lib/channel/address/address.js';
import { parseOptions } from '../../../lib/proxy/channel/channel-options.js';
import type { Configuration } from '../../../lib/settings/configuration.js';
import { callVproxy } from '../../helpers/call-vproxy.js';
import { makeFifos } from '../../helpers/channel-pair.js';
import { temporaryFolder } from '../../helpers/files.js';
import { fakeMachine, fakeMachineWithProc, portFiles, pretend } from '../../helpers/machines.js';
import { incoming, localServer, outgoing } from '../../helpers/proxies.js';
import { openPty } from '../../helpers/terminals.js';
import { serialTestWith } from '../../helpers/test-with.js';
import { spawnControlled } from '../../helpers/vproxy-process.js';
import { session, sessionAfter } from './cases/peers.js';
import { listening } from './cases/sockets.js';

const idsOf = (findings: readonly Finding[] | null): Finding['id'][] => (findings ?? []).map(({ id }) => id);

/** A request that names only channels. */
const requestFor = (...channels: Configuration['channels']) => ({
  configuration: { channels } as Configuration,
  ...{ keyFiles: [], problems: [], socket: null, isGeneral: false },
});

/** Findings of `vproxy doctor`, and the checks it made. */
async function diagnose(args: readonly string[], env?: Readonly<Record<string, string>>) {
  const { stdout } = await callVproxy(['doctor', '--json', ...args], { ...(env && { env }) });
  const { findings } = JSON.parse(stdout) as { findings: Diagnosis[] };
  return { findings, checks: new Set(findings.map(({ check }) => check)) };
}

test('a proxy on another machine is ignored', async (t) => {
  const environment = {
    ...{ http_proxy: 'http://192.0.2.1:3128', HTTPS_PROXY: 'proxy.example:80' },
    ...{ all_proxy: '', ftp_proxy: '?' },
  };
  const files = { 'etc/apt/apt.conf': 'Acquire::http::Proxy::deb.example "DIRECT";\nAcquire::http::Proxy "false";\n' };
  t.deepEqual(await checkProxySettings(fakeMachine(t, { environment, files })), []);
});

test('a vproxy-guest of the same version, or a program that is not vproxy, is no older side', async (t) => {
  for (const agent of ['vproxy-guest test', 'monitor 3.2']) {
    t.deepEqual(idsOf(await session(t, { peer: { agent } })), ['session-up']);
  }
  t.true(idsOf(await session(t, { peer: { agent: 'vproxy-guest 0.0.9' } })).includes('peer-version'));
});

/** A process that has a channel open blocks others, but not itself. */
function testHeld(
  kind: string,
  {
    ofOthers,
    ofOurs = [],
  }: { readonly ofOthers: readonly Finding['id'][]; readonly ofOurs?: readonly Finding['id'][] },
  hold: (t: ExecutionContext, path: string) => Promise<{ address: string; pid: number; machine?: Machine }>,
): void {
  serialTestWith('python')(`${kind}: the vproxy that is checked does not count as another process`, async (t) => {
    const { address, pid, machine = fakeMachine(t) } = await hold(t, join(temporaryFolder(t), 's_1'));
    const channel = parseChannel(`${kind}:${address}`);
    t.deepEqual(idsOf(await checkChannel(machine, channel, null)), ofOthers);
    t.deepEqual(idsOf(await checkChannel(machine, channel, pid)), ofOurs);
  });
}

testHeld('unix-connect', { ofOthers: ['socket-listens', 'channel-busy'], ofOurs: ['socket-listens'] }, async (t) => {
  const address = await listening(t, 'qemu-system-x86');
  return { address, ...(await pretend(t, { program: 'vproxy', connect: address })) };
});

testHeld('tcp-connect', { ofOthers: ['tcp-taken'] }, async (t) => {
  const { port } = await pretend(t, { program: 'qemu-system-x86', listenTcp: true });
  return { address: `127.0.0.1:${port}`, pid: (await pretend(t, { program: 'vproxy', connectTcp: port })).pid };
});

testHeld('tcp-listen', { ofOthers: ['address-in-use'] }, async (t) => {
  const { port, pid } = await pretend(t, { program: 'vproxy', listenTcp: true });
  return { address: `127.0.0.1:${port}`, pid };
});

for (const kind of ['unix-listen', 'vsock-mux-listen']) {
  testHeld(kind, { ofOthers: ['address-in-use'] }, async (t, address) => {
    const { pid } = await pretend(t, { program: 'vproxy', listen: address });
    return { address, pid };
  });
}

testHeld('tty-open', { ofOthers: ['channel-busy'] }, async (t) => {
  const { terminal: address } = await pretend(t, { program: 'terminal', terminal: true });
  return { address, pid: (await pretend(t, { program: 'vproxy', open: [address] })).pid };
});

testHeld('pipe-open', { ofOthers: ['channel-busy'], ofOurs: ['fifo-alone'] }, async (t) => {
  const address = makeFifos(t);
  const { pid } = await pretend(t, { program: 'vproxy', open: [`${address}.in`, `${address}.out`] });
  return { address, pid };
});

testHeld('virtserial-open', { ofOthers: ['channel-busy'] }, async (t) => {
  const links = { 'dev/vport0p1': (await openPty(t)).path, 'dev/virtio-ports/org.vproxy.0': '../vport0p1' };
  const machine = fakeMachine(t, { files: portFiles('org.vproxy.0'), links });
  return { address: 'org.vproxy.0', pid: process.pid, machine };
});

serialTestWith('python')('a listening vproxy accepts a second connection: the first does not block it', async (t) => {
  const at = { path: await listening(t, 'vproxy', 'minicom'), servesOne: true };
  t.deepEqual(idsOf(await checkUnixSocket(fakeMachine(t), at, null)), ['socket-listens']);
});

test('the file system of a path is that of the nearest mount, and of the last one there', async (t) => {
  for (const [path, mounts, problem] of [
    ['/nowhere/s', ['/ nfs4'], /nfs4 at \/($|[^a-z])/],
    ['/nowhere', ['/ ext4', '/nowhere nfs'], /nfs at \/nowhere/],
    ['/nowhere/s', ['/ nfs4', '/no ext4', '/nowhere ext4'], null],
    ['/nowhere/s', ['/ ext4', '/now nfs4'], null],
    ['/nowhere/s', ['/ ext4', '/nowhere nfs4', '/nowhere ext4'], null],
  ] as const) {
    const lines = mounts.map((mount) => `36 35 0:33 / ${mount.replace(' ', ' rw,relatime shared:1 - ')} server:/ rw\n`);
    const machine = fakeMachineWithProc(t, { files: { 'proc/self/mountinfo': lines.join('') } });
    const found = (await lookAtPath(machine, path)).problem?.message ?? '';
    if (problem === null) t.notRegex(found, /nfs/, mounts.join());
    else t.regex(found, problem);
  }
});

test('each address of a name is tried, and the first is reported if none answers', async (t) => {
  const { port } = await localServer(t, (socket) => void socket.end());
  const lookWith = async (...addresses: string[]) => {
    const machine = fakeMachine(t, { lookUpHost: () => Promise.resolve(addresses) });
    const found = await checkTcpConnect(machine, { address: { host: 'vm1', port }, servesOne: true }, false);
    return found.map(({ message }) => message).join('\n');
  };
  t.regex(await lookWith('127.0.0.2', '127.0.0.1'), new RegExp(`^vm1:${port} \\(127\\.0\\.0\\.1\\) answers`));
  t.regex(
    await lookWith('127.0.0.2', '127.0.0.3'),
    new RegExp(`^nothing listens on vm1:${port} \\(127\\.0\\.0\\.2\\)$`),
  );
});

test('two short sessions in a row, or three with a long one, or one long ago, are not unsteady', async (t) => {
  for (const ended of [
    [1, 1],
    [1, 1_000_000, 1],
  ]) {
    const found = await sessionAfter(t, ...ended.map((ageMs) => ['desync', ageMs] as const));
    t.false(idsOf(found).includes('session-unsteady'), ended.join());
  }
  const found = await sessionAfter(t, ['desync', 1], ['desync', 1], ['desync', 1, 1_000_000]);
  t.false(idsOf(found).includes('session-unsteady'));
});

test('only a virtio-serial device without a driver means that the module is missing', (t) => {
  const device = (name: string) => `sys/bus/virtio/devices/${name}`;
  const files = { [`${device('virtio1')}/device`]: '0x0001\n', [`${device('virtio3')}/device`]: '0x0003\n' };
  const links = { [`${device('virtio3')}/driver`]: '/nowhere' };
  t.deepEqual(idsOf(checkVirtioPorts(fakeMachine(t, { files }))), ['port-module', 'ports-none']);
  t.deepEqual(idsOf(checkVirtioPorts(fakeMachine(t, { files, links }))), ['ports-none']);
});

test('terminals are checked only where the peer may run commands', async (t) => {
  const machine = fakeMachine(t, { hasKoffi: () => Promise.resolve(false) });
  for (const exec of [{ commands: 'any' }, null] as const) {
    const jobs = await planJobs(machine, requestFor({ label: 'a', address: parseChannel('stdio:'), exec }));
    const isChecked = jobs.some(({ check }) => check === 'terminals');
    t.is(isChecked, exec !== null);
  }
});

test('the buffer is checked, at the requested size, where a channel or a forward is a unix socket', async (t) => {
  const asked: number[] = [];
  const grantedBuffer = (bytes: number) => Promise.resolve(asked.push(bytes) && bytes);
  const machine = fakeMachine(t, { hasKoffi: () => Promise.resolve(true), grantedBuffer });
  for (const channel of [
    { address: 'unix-connect:/run/vm1.sock', bufferBytes: 65_536 },
    { address: 'libvirt:vm1' },
    { address: 'virtserial-open:org.vproxy.0', forwards: incoming('web:/run/web.sock'), bufferBytes: 65_536 },
    { address: 'tcp-connect:127.0.0.1:9', forwards: incoming('web:80') },
  ]) {
    const jobs = await planJobs(machine, requestFor(parseOptions({ label: 'a', ...channel })));
    for (const { check, run } of jobs) if (check === 'buffer') t.deepEqual(await run(), [], channel.address);
  }
  t.deepEqual(asked, [65_536, 1_048_576, 1_048_576]);
});

test('a denial of the path of a channel, of its forward or of a key counts for any program', async (t) => {
  const [log, nowMs] = [join(temporaryFolder(t), 'audit.log'), Date.now()];
  const paths = ['/srv/channel', '/srv/forward', '/srv/key', '/srv/port', '/srv/other'];
  const lines = paths.map(
    (path) =>
      `type=AVC msg=audit(${Math.floor(nowMs / 1000)}.123:456): avc:  denied  { connectto } for  pid=812 comm="socat" path="${path}" scontext=a tcontext=b tclass=c permissive=0\n`,
  );
  writeFileSync(log, lines.join(''));
  const [address, forwards] = ['unix-connect:/srv/channel', outgoing('ssh:/srv/forward')];
  const request = requestFor(
    { label: 'a', address: parseChannel(address), forwards, keyFiles: ['/srv/key'] },
    { label: 'b', address: parseChannel('virtserial-open:/srv/port') },
  );
  const found = await runDoctor(fakeMachine(t, { logs: [log], nowMs }), request);
  const denied = found
    .filter(({ id }) => id === 'selinux-denied')
    .map(({ message }) => / of (\S+) /.exec(message)?.[1]);
  t.deepEqual(denied, paths.slice(0, -1));
});

test('the targets of a channel are checked for that channel', async (t) => {
  const folder = temporaryFolder(t);
  const channels = ['-c', `a=unix-listen:${folder}/a`, '-c', `b=unix-listen:${folder}/b`];
  const forwards = ['-i', `a/web:${folder}/web`, '-i', `b/log:${folder}/log`, '-o', `a/ssh:${folder}/ssh`];
  const { socket } = await spawnControlled(t, [...channels, ...forwards]);
  const { findings } = await diagnose(['--socket', socket]);
  t.deepEqual(
    findings.filter(({ check }) => check === 'target').map(({ subject }) => subject.replace(/ of .* -i/, ' -i')),
    [`channel a -i web:unix:${folder}/web`, `channel b -i log:unix:${folder}/log`],
  );
});

test('only what is named is checked, not the machine; a missing socket is reported', async (t) => {
  const [folder, env] = [temporaryFolder(t), { XDG_RUNTIME_DIR: temporaryFolder(t) }];
  const channel = ['-c', `unix-connect:${folder}/none`];
  t.true((await diagnose([], env)).checks.has('virtio'));
  // A name that is not a file name is looked for among the running processes; beside a channel it may name a future one.
  for (const args of [['--key', join(folder, 'k')], channel, [...channel, '--name', 'no such']]) {
    t.false((await diagnose(args, env)).checks.has('virtio'), args.join(' '));
  }
  const { stdout } = await callVproxy(['doctor', '--name', 'no-such-process'], { env });
  t.regex(stdout, /^warn control socket: .*no-such-process\.sock does not exist; do: start vproxy$/m);
  t.notRegex(stdout, /virtio/);
  const nobody = await callVproxy(['doctor', '--name', 'no such'], { env });
  t.like(nobody, { code: 69, stderr: 'vproxy: error: no running vproxy named "no such"\n' });
});

test('the summary counts failures and warnings', (t) => {
  const sum = (...levels: Diagnosis['level'][]) => formatSummary(levels.map((level) => ({ level }) as Diagnosis));
  t.is(sum('fail', 'ok', 'warn'), '1 failure, 1 warning.\n');
  t.is(sum('fail', 'fail', 'note'), '2 failures, 0 warnings.\n');
  t.is(sum('warn', 'warn'), '0 failures, 2 warnings.\n');
  t.is(sum('ok', 'note'), 'No problems found.\n');
});
