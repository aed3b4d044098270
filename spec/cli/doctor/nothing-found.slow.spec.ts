/** Cases in which `vproxy doctor` must not find anything, and in which its check has to be exact. */
import { appendFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type Diagnosis, formatSummary } from '../../../cli/doctor/diagnosis.js';
import { checkTcpListen } from '../../../cli/doctor/locations/listener.js';
import { checkTty } from '../../../cli/doctor/locations/serial-line.js';
import { checkUnixSocket } from '../../../cli/doctor/locations/unix-socket.js';
import { checkVirtioPorts } from '../../../cli/doctor/locations/virtio-port.js';
import { lookAtPath } from '../../../cli/doctor/path.js';
import { planJobs, runDoctor } from '../../../cli/doctor/plan.js';
import { channelsOf } from '../../../cli/doctor/running.js';
import { checkChannel } from '../../../cli/doctor/subjects/channel.js';
import { checkControlSocket } from '../../../cli/doctor/subjects/control-socket.js';
import { checkDenials } from '../../../cli/doctor/subjects/denials.js';
import { checkProxySettings } from '../../../cli/doctor/subjects/egress.js';
import { checkForward } from '../../../cli/doctor/subjects/forward.js';
import { checkKeyFile } from '../../../cli/doctor/subjects/key-file.js';
import { checkMachine } from '../../../cli/doctor/subjects/machine-facts.js';
import { checkSession } from '../../../cli/doctor/subjects/session.js';
import { parseChannel } from '../../../lib/channel/address/address.js';
import { createFifos } from '../../../lib/channel/pipe-open.js';
import { parseForwardSpec } from '../../../lib/forward/spec.js';
import type { Configuration } from '../../../lib/settings/configuration.js';
import { temporaryFolder, writeKeyFile } from '../../helpers/files.js';
import { fakeMachine, fakeMachineWithProc, portFiles, pretend } from '../../helpers/machines.js';
import { freePort } from '../../helpers/ports.js';
import { localServer, steeredPair } from '../../helpers/proxies.js';
import { openPty } from '../../helpers/terminals.js';
import { serialTestWith } from '../../helpers/test-with.js';
import { runVproxy, spawnVproxy, TAKING_CONTROL } from '../../helpers/vproxy-process.js';

async function idsOf(t: ExecutionContext, path: string, ownPid: number | null): Promise<readonly string[]> {
  const findings = await checkUnixSocket(fakeMachine(t), { path, servesOne: true }, ownPid);
  return findings.map(({ id }) => id);
}

/** A request that names its channels only. */
const requestFor = (...channels: Configuration['channels']) => ({
  configuration: { channels } as Configuration,
  ...{ keyFiles: [], problems: [], socket: null, isGeneral: false },
});

test('a proxy that is not at a port of this machine is nobody’s concern here', async (t) => {
  const environment = {
    http_proxy: 'http://192.0.2.1:3128',
    HTTPS_PROXY: 'proxy.example:80',
    all_proxy: '',
    ftp_proxy: '?',
  };
  const files = { 'etc/apt/apt.conf': 'Acquire::http::Proxy::deb.example "DIRECT";\nAcquire::http::Proxy "false";\n' };
  t.deepEqual(await checkProxySettings(fakeMachine(t, { environment, files })), []);
});

serialTestWith('python')('the vproxy that has the channel is not in its own way', async (t) => {
  const path = join(temporaryFolder(t), 's');
  await pretend(t, { program: 'qemu-system-x86', listen: path });
  const { pid } = await pretend(t, { program: 'vproxy', connect: path });
  t.deepEqual(await idsOf(t, path, pid), ['socket-listens']);
  t.deepEqual(await idsOf(t, path, null), ['socket-listens', 'socket-taken']);
});

/** Each makes a channel that exactly one process has open. */
const HELD: Readonly<
  Record<
    string,
    {
      readonly hold: (t: ExecutionContext, folder: string) => Promise<{ address: string; pid: number }>;
      readonly ofOthers: string;
      readonly ofOurs: readonly string[];
    }
  >
> = {
  'tcp-connect': {
    async hold(t) {
      const { port } = await pretend(t, { program: 'qemu-system-x86', listenTcp: true });
      const { pid } = await pretend(t, { program: 'vproxy', connectTcp: port });
      return { address: `tcp-connect:127.0.0.1:${port}`, pid };
    },
    ...{ ofOthers: 'tcp-taken', ofOurs: [] },
  },
  'tcp-listen': {
    async hold(t) {
      const { port, pid } = await pretend(t, { program: 'vproxy', listenTcp: true });
      return { address: `tcp-listen:127.0.0.1:${port}`, pid };
    },
    ...{ ofOthers: 'listen-taken', ofOurs: [] },
  },
  'unix-listen': {
    async hold(t, folder) {
      const { pid } = await pretend(t, { program: 'vproxy', listen: `${folder}/s` });
      return { address: `unix-listen:${folder}/s`, pid };
    },
    ...{ ofOthers: 'listen-taken', ofOurs: [] },
  },
  'vsock-mux-listen': {
    async hold(t, folder) {
      const { pid } = await pretend(t, { program: 'vproxy', listen: `${folder}/s_1` });
      return { address: `vsock-mux-listen:${folder}/s_1`, pid };
    },
    ...{ ofOthers: 'listen-taken', ofOurs: [] },
  },
  'tty-open': {
    async hold(t) {
      const { terminal } = await pretend(t, { program: 'terminal', terminal: true });
      const { pid } = await pretend(t, { program: 'vproxy', open: [terminal] });
      return { address: `tty-open:${terminal}`, pid };
    },
    ...{ ofOthers: 'line-taken', ofOurs: [] },
  },
  'pipe-open': {
    async hold(t, folder) {
      await createFifos(`${folder}/p`, { mode: 0o600, owner: null });
      const { pid } = await pretend(t, { program: 'vproxy', open: [`${folder}/p.in`, `${folder}/p.out`] });
      return { address: `pipe-open:${folder}/p`, pid };
    },
    ...{ ofOthers: 'fifo-taken', ofOurs: ['fifo-alone'] },
  },
};

for (const [kind, { hold, ofOthers, ofOurs }] of Object.entries(HELD)) {
  serialTestWith('python')(`${kind}: what the vproxy has that is asked about is no other one’s`, async (t) => {
    const { address, pid } = await hold(t, temporaryFolder(t));
    const look = async (ownPid: number | null) =>
      (await checkChannel(fakeMachine(t), parseChannel(address), ownPid))?.map(({ id }) => id);
    t.deepEqual(await look(null), [ofOthers]);
    t.deepEqual(await look(pid), ofOurs);
  });
}

test.serial('virtserial-open: a port that the vproxy has that is asked about is not busy', async (t) => {
  const { path } = await openPty(t);
  const machine = fakeMachine(t, {
    files: portFiles('org.vproxy.0'),
    links: { 'dev/vport0p1': path, 'dev/virtio-ports/org.vproxy.0': '../vport0p1' },
  });
  const look = async (ownPid: number | null) =>
    (await checkChannel(machine, parseChannel('virtserial-open:org.vproxy.0'), ownPid))?.map(({ id }) => id);
  t.deepEqual(await look(null), ['port-busy']);
  t.deepEqual(await look(process.pid), []);
});

serialTestWith('python')(
  'a vproxy that listens takes a second connection, so the first is in nobody’s way',
  async (t) => {
    const path = join(temporaryFolder(t), 's');
    await pretend(t, { program: 'vproxy', listen: path });
    await pretend(t, { program: 'minicom', connect: path });
    t.deepEqual(await idsOf(t, path, null), ['socket-listens']);
  },
);

test('a key of this user may not even be read by its group', async (t) => {
  const path = writeKeyFile(temporaryFolder(t), 'k', 'ab', 0o640);
  const findings = await checkKeyFile(fakeMachine(t), path);
  t.deepEqual(
    findings.map(({ id }) => id),
    ['key-open'],
  );
});

test('the mount that is nearest to a path tells its file system, and the last one there', async (t) => {
  const problemOf = async (path: string, ...mounts: string[]) => {
    const lines = mounts.map((mount) => `36 35 0:33 / ${mount.replace(' ', ' rw,relatime shared:1 - ')} server:/ rw\n`);
    const machine = fakeMachineWithProc(t, { files: { 'proc/self/mountinfo': lines.join('') } });
    return (await lookAtPath(machine, path)).problem?.message;
  };
  t.regex((await problemOf('/nowhere/s', '/ nfs4')) ?? '', /nfs4 at \/($|[^a-z])/);
  t.regex((await problemOf('/nowhere', '/ ext4', '/nowhere nfs')) ?? '', /nfs at \/nowhere/);
  for (const mounts of [
    ['/ nfs4', '/no ext4', '/nowhere ext4'],
    ['/ ext4', '/now nfs4'],
    ['/ ext4', '/nowhere nfs4', '/nowhere ext4'],
  ]) {
    t.notRegex((await problemOf('/nowhere/s', ...mounts)) ?? '', /nfs/, mounts.join());
  }
});

test('a name is found out without getent as well', async (t) => {
  const server = net.createServer((socket) => socket.end());
  await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as net.AddressInfo;
  const env = { PATH: temporaryFolder(t) };
  const { stdout } = await runVproxy(['doctor', '-c', `tcp-connect:localhost:${port}`], { env });
  t.regex(stdout, new RegExp(`localhost:${port} \\(\\S+\\) answers`));
});

test('of a name each address is tried, and the first one is told where nobody answers', async (t) => {
  const [server, folder] = [net.createServer((socket) => socket.end()), temporaryFolder(t)];
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as net.AddressInfo;
  const answers = (...addresses: string[]) => {
    const lines = addresses.map((address) => `echo ${address} STREAM vm1\necho ${address} DGRAM\n`);
    writeFileSync(join(folder, 'getent'), `#!/bin/sh\n${lines.join('')}`, { mode: 0o755 });
  };
  const look = async () => {
    const env = { PATH: `${folder}:${process.env['PATH'] ?? ''}` };
    return (await runVproxy(['doctor', '-c', `tcp-connect:vm1:${port}`], { env })).stdout;
  };
  answers('127.0.0.2', '127.0.0.1');
  t.regex(await look(), new RegExp(`vm1:${port} \\(127\\.0\\.0\\.1\\) answers`));
  answers('127.0.0.2', '127.0.0.3');
  t.regex(await look(), new RegExp(`nobody listens on vm1:${port} \\(127\\.0\\.0\\.2\\)`));
});

test('a control socket that is not there is not one that was left', async (t) => {
  const machine = fakeMachine(t, { controlSockets: [join(temporaryFolder(t), 'none')] });
  const [socket] = await machine.control();
  t.not(socket, undefined);
  const [found] = socket === undefined ? [] : checkControlSocket(machine, socket);
  t.regex(found?.message ?? '', /^there is no /);
  t.is(found?.remedy, 'start vproxy');
});

test('a Node that is new enough is not too old', (t) => {
  const isOld = (nodeVersion: string) =>
    checkMachine(fakeMachine(t, { nodeVersion })).some(({ id }) => id === 'node-old');
  t.deepEqual(['18.20.0', '20.18.9', '20.19.0', '20.20.1', '22.1.0', '26.0.0'].map(isOld), [
    ...[true, true],
    ...[false, false, false, false],
  ]);
});

test('an address of this machine is one to listen on', async (t) => {
  const own = Object.values(networkInterfaces()).flatMap((addresses) => addresses ?? []);
  for (const { address, family } of own.filter(({ scopeid }) => (scopeid ?? 0) === 0)) {
    const port = await freePort(address);
    const found = await checkTcpListen(fakeMachine(t), { host: address, port });
    t.deepEqual(
      found.map(({ id }) => id),
      ['listen-free'],
      `${family} ${address}`,
    );
  }
});

test('what is in the place of a line is named', async (t) => {
  const folder = temporaryFolder(t);
  await localServer(t, () => undefined, { path: `${folder}/socket` });
  writeFileSync(`${folder}/file`, '');
  await createFifos(`${folder}/p`, { mode: 0o600, owner: null });
  const says = async (name: string) =>
    (await checkTty(fakeMachine(t), join(folder, name), false)).map(({ message }) => message);
  for (const [name, what] of [
    ['socket', 'a socket'],
    ['file', 'a file'],
    ['p.in', 'a FIFO'],
    ['.', 'a folder'],
  ] as const) {
    t.deepEqual(await says(name), [`${join(folder, name)} is ${what}`]);
  }
});

test('three short sessions in a row are unsteady; with a long one, or one long ago, they are not', async (t) => {
  const nowMs = Date.now();
  const ended = (ageMs: number, agoMs = 1000) => ({
    ...{ at: new Date(nowMs - agoMs).toISOString(), ageMs, code: 'desync', message: 'it was so' },
  });
  const { control } = await steeredPair(t);
  const machine = fakeMachine(t, { controlSockets: [control.path], nowMs });
  const [one] = channelsOf(await machine.control());
  if (one === undefined) throw new Error('there is no channel');
  const isUnsteady = async (...recent: ReturnType<typeof ended>[]) => {
    const channel = { ...one.channel, history: { ...one.channel.history, recent } };
    return (await checkSession(machine, { ...one, channel })).some(({ id }) => id === 'session-unsteady');
  };
  t.true(await isUnsteady(ended(1), ended(1), ended(1), ended(1_000_000)));
  t.false(await isUnsteady(ended(1), ended(1_000_000), ended(1)));
  t.false(await isUnsteady(ended(1), ended(1), ended(1, 1_000_000)));
  t.false(await isUnsteady(ended(1), ended(1)));
});

test('the module is missing where a virtio-serial device has no driver, and no other device', (t) => {
  const device = (virtio: string, id: string) => ({ [`sys/bus/virtio/devices/${virtio}/device`]: `${id}\n` });
  const idsWith = (links: Readonly<Record<string, string>>) => {
    const machine = fakeMachine(t, {
      files: { ...device('virtio1', '0x0001'), ...device('virtio3', '0x0003') },
      links,
    });
    return checkVirtioPorts(machine).map(({ id }) => id);
  };
  t.deepEqual(idsWith({}), ['port-module', 'ports-none']);
  t.deepEqual(idsWith({ 'sys/bus/virtio/devices/virtio3/driver': '/nowhere' }), ['ports-none']);
});

test('the facts say as whom it looks', (t) => {
  const factsOf = (userId: number) => checkMachine(fakeMachine(t, { userId }))[0]?.message ?? '';
  t.regex(factsOf(0), /, looked at as root$/);
  t.regex(factsOf(7), /, looked at as user 7$/);
});

test('where a hybrid vsock is offered its socket can be made', async (t) => {
  const forward = parseForwardSpec('outgoing', `*:vsock-mux:${temporaryFolder(t)}/s`);
  const found = await checkForward(fakeMachine(t), forward);
  t.deepEqual(
    found.map(({ id }) => id),
    ['listen-free'],
  );
});

test('terminals matter where the peer may run commands', async (t) => {
  const machine = fakeMachine(t, { hasKoffi: () => Promise.resolve(false) });
  const channel = { label: 'a', address: 'stdio:' };
  const checks = async (exec: { commands: 'any' } | null) =>
    (await planJobs(machine, requestFor({ ...channel, exec }))).map(({ check }) => check);
  t.true((await checks({ commands: 'any' })).includes('terminals'));
  t.false((await checks(null)).includes('terminals'));
});

test('the buffer of a unix socket matters where a channel or a forward is one, and as much as is asked for counts', async (t) => {
  const asked: number[] = [];
  const machine = fakeMachine(t, {
    hasKoffi: () => Promise.resolve(true),
    grantedBuffer: (bytes) => Promise.resolve(asked.push(bytes) && bytes),
  });
  const look = async (address: string, rest: Partial<Configuration['channels'][number]> = {}) => {
    const jobs = await planJobs(machine, requestFor({ label: 'a', address, ...rest }));
    const looked = jobs.filter(({ check }) => check === 'buffer').map(async ({ run }) => run());
    return Promise.all(looked);
  };
  const forwards = [parseForwardSpec('incoming', 'web:/run/web.sock')];
  t.deepEqual(await look('unix-connect:/run/vm1.sock', { bufferBytes: 65_536 }), [[]]);
  t.deepEqual(await look('libvirt:vm1'), [[]]);
  t.deepEqual(await look('virtserial-open:org.vproxy.0', { forwards, bufferBytes: 65_536 }), [[]]);
  t.deepEqual(await look('tcp-connect:127.0.0.1:9', { forwards: [parseForwardSpec('incoming', 'web:80')] }), []);
  t.deepEqual(asked, [65_536, 1_048_576, 1_048_576]);
});

test('a denial of the path of a channel, of its forward or of a key counts, whoever was denied it', async (t) => {
  const log = join(temporaryFolder(t), 'audit.log');
  const nowMs = Date.now();
  const paths = ['/srv/channel', '/srv/forward', '/srv/key', '/srv/other'];
  for (const path of paths) {
    appendFileSync(
      log,
      `type=AVC msg=audit(${Math.floor(nowMs / 1000)}.123:456): avc:  denied  { connectto } for  pid=812 comm="socat" path="${path}" scontext=a tcontext=b tclass=c permissive=0\n`,
    );
  }
  const forward = { direction: 'outgoing', service: 'ssh', endpoint: { kind: 'unix', path: '/srv/forward' } } as const;
  const forwards = [forward] as unknown as NonNullable<Configuration['channels'][number]['forwards']>;
  const request = requestFor({ label: 'a', address: 'unix-connect:/srv/channel', forwards, keyFiles: ['/srv/key'] });
  const found = await runDoctor(fakeMachine(t, { logs: [log], nowMs }), request);
  const denied = found
    .filter(({ id }) => id === 'selinux-denied')
    .map(({ message }) => / of (\S+) /.exec(message)?.[1]);
  t.deepEqual(denied, paths.slice(0, 3));
});

test('of a log that is long its end is read', (t) => {
  const log = join(temporaryFolder(t), 'audit.log');
  const line = (comm: string) =>
    `audit(1800000000.1:2): avc:  denied  { read } for comm="${comm}" path="/x" scontext=a tcontext=b tclass=file permissive=0\n`;
  writeFileSync(log, `${line('vproxy-first')}${'x'.repeat(600_000)}\n${line('vproxy-last')}`);
  const found = checkDenials(fakeMachine(t, { logs: [log], nowMs: 1_800_000_001_000 }), { paths: [] });
  t.deepEqual(
    found.map(({ message }) => message.split(' ')[0]),
    ['vproxy-last'],
  );
});

test('the targets of a channel are looked at for that channel', async (t) => {
  const folder = temporaryFolder(t);
  const channels = ['-c', `a=unix-listen:${folder}/a`, '-c', `b=unix-listen:${folder}/b`];
  const forwards = ['-i', `a/web:${folder}/web`, '-i', `b/log:${folder}/log`, '-o', `a/ssh:${folder}/ssh`];
  const control = ['--control', `${folder}/control`];
  await spawnVproxy(t, [...channels, ...forwards, ...control]).waitForLine(TAKING_CONTROL);
  const { stdout } = await runVproxy(['doctor', '--json', '--socket', `${folder}/control`]);
  const { findings } = JSON.parse(stdout) as { findings: Diagnosis[] };
  const targets = findings.filter(({ check }) => check === 'target').map(({ subject }) => subject);
  t.deepEqual(
    targets.map((subject) => subject.replace(/ of .* -i/, ' -i')),
    [`channel a -i web:unix:${folder}/web`, `channel b -i log:unix:${folder}/log`],
  );
});

test('what is named is looked at, and not the machine; what is not there is said', async (t) => {
  const env = { XDG_RUNTIME_DIR: temporaryFolder(t) };
  const folder = temporaryFolder(t);
  const checksOf = async (...args: string[]) => {
    const { stdout } = await runVproxy(['doctor', '--json', ...args], { env });
    return new Set((JSON.parse(stdout) as { findings: Diagnosis[] }).findings.map(({ check }) => check));
  };
  t.true((await checksOf()).has('virtio'));
  t.false((await checksOf('--key', join(folder, 'k'))).has('virtio'));
  t.false((await checksOf('-c', `unix-connect:${folder}/none`)).has('virtio'));
  const { stdout } = await runVproxy(['doctor', '--name', 'no-such-process'], { env });
  t.regex(stdout, /^warn control socket: there is no .*no-such-process\.sock; do: start vproxy$/m);
  t.notRegex(stdout, /virtio/);
  // A name that is not a file name is looked for among the running processes; beside a channel it may be that of a
  // future one.
  t.false((await checksOf('-c', `unix-connect:${folder}/none`, '--name', 'no such')).has('virtio'));
  const nobody = await runVproxy(['doctor', '--name', 'no such'], { env });
  t.is(nobody.code, 69);
  t.regex(nobody.stderr, /^vproxy: error: no vproxy runs that is called "no such"\n$/);
});

test('the sum says how many things fail, and how many warnings there are', (t) => {
  const sum = (...levels: Diagnosis['level'][]) => formatSummary(levels.map((level) => ({ level }) as Diagnosis));
  t.is(sum('fail', 'ok', 'warn'), '1 thing fails, 1 warning.\n');
  t.is(sum('fail', 'fail', 'note'), '2 things fail, 0 warnings.\n');
  t.is(sum('warn', 'warn'), '0 things fail, 2 warnings.\n');
  t.is(sum('ok', 'note'), 'Nothing is wrong that could be seen from here.\n');
});
