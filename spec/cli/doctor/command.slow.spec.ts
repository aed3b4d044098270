/** `vproxy doctor` as a command: its arguments, its output, its status, and that it disturbs nothing. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { Diagnosis } from '../../../cli/doctor/diagnosis.js';
import { FINDINGS } from '../../../cli/doctor/findings.js';
import { RUN_OPTIONS } from '../../../cli/run/options.js';
import { CHANNEL_KINDS } from '../../../lib/channel/kinds.js';
import { callVproxy } from '../../helpers/call-vproxy.js';
import { temporaryFolder } from '../../helpers/files.js';
import { fakeVirsh } from '../../helpers/libvirt.js';
import { pretend } from '../../helpers/machines.js';
import { ONE_SESSION, processPair } from '../../helpers/process-pair.js';
import { ask, localServer } from '../../helpers/proxies.js';
import { testWith } from '../../helpers/test-with.js';
import { runVproxy, spawnControlled } from '../../helpers/vproxy-process.js';
import { listening } from './cases/sockets.js';

const doctor = (...args: readonly string[]) => callVproxy(['doctor', ...args]);

const findingsIn = (stdout: string) => (JSON.parse(stdout) as { findings: Diagnosis[] }).findings;

test('a finding is a line: level, subject, escaped message, and remedy', async (t) => {
  const path = join(temporaryFolder(t), 'a\u001b[2Jb');
  const { stdout, stderr, code } = await runVproxy(['doctor', '-c', `vm1=unix-connect:${path}`]);
  t.deepEqual({ stderr, code }, { stderr: '', code: 1 });
  t.true(stdout.includes(`\nfail channel vm1: ${path.replace('\u001b', '\\x1b')} does not exist; do: start the VM `));
  for (const line of stdout.trimEnd().split('\n')) t.regex(line, /^(ok {2}|note|warn|fail) \S[^\u001b]*: \S/);
});

test('with --json each is an object, with the level of the table, or that of an error', async (t) => {
  const { stdout } = await doctor('--json', '-c', `unix-listen:${temporaryFolder(t)}/s`, '--key', '/no/key');
  const findings = findingsIn(stdout);
  t.true(findings.length >= 3);
  for (const { id, check, subject, level, message, remedy } of findings) {
    t.is(level, Object.entries(FINDINGS).find(([row]) => row === id)?.[1].level ?? 'fail');
    for (const text of [check, subject, message, remedy]) t.not(text, '');
  }
  const free = { check: 'unix-listen', subject: 'channel default', level: 'ok', remedy: null } as const;
  const found = findings.find(({ id }) => id === 'listen-free');
  t.like(found, free);
});

test('it accepts every run option', async (t) => {
  const folder = temporaryFolder(t);
  const values: Readonly<Record<string, string>> = {
    ...{ channel: `vm1=unix-listen:${folder}/c`, outgoing: '*:vsock-mux:/nowhere/x', incoming: 'ssh:22' },
    ...{ 'dead-after': '5', buffer: '65536', wait: '1', ready: 'all' },
    ...{ 'storage-socket': `${folder}/storage`, 'storage-parallel': '2', control: `${folder}/control` },
    ...{
      metrics: '127.0.0.1:0',
      audit: `${folder}/audit`,
      'log-format': 'json',
      'http-ports': '127.0.0.1:0',
      key: `${folder}/key`,
      name: 'vm1',
    },
    ...{ egress: 'web:allow=a.example:80,443', 'announce-ports': '3000-9999', 'forward-ports': '3000-9999' },
  };
  const flags = ['allow-exec', 'allow-copy', 'follow-clock'];
  const others = ['config', 'print-config', 'json', 'no-control', 'no-info', 'no-storage', 'quiet'];
  const words = Object.entries(RUN_OPTIONS)
    .filter(([name]) => !others.includes(name))
    .flatMap(([name, { value }]) =>
      value === undefined || flags.includes(name) ? [`--${name}`] : [`--${name}`, values[name] ?? ''],
    );
  const { stdout, stderr, code } = await doctor('--json', ...words);
  t.deepEqual({ stderr, code }, { stderr: '', code: 1 });
  const findings = findingsIn(stdout);
  t.false(findings.some(({ check }) => check === 'config'));
  t.true(findings.some(({ subject }) => subject.includes('-o *:vsock-mux:/nowhere/x')));
});

test('credentials that cannot be read are no finding without a channel, and one with it', async (t) => {
  const file = join(temporaryFolder(t), 'file');
  writeFileSync(file, '');
  const examine = (...args: string[]) =>
    runVproxy(['doctor', '--json', ...args], { env: { CREDENTIALS_DIRECTORY: file } });
  const named = async (...args: string[]) =>
    findingsIn((await examine(...args)).stdout).some(({ message }) => message.includes('$CREDENTIALS_DIRECTORY'));
  t.false(await named());
  t.true(await named('-c', 'stdio:'));
});

test('it checks what a file defines, and what the command line adds', async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'vproxy.toml');
  writeFileSync(file, `[channels.vm1]\naddress = "unix-connect:${folder}/none"\noutgoing = ["ssh:127.0.0.1:0"]\n`);
  const { stdout } = await doctor('--config', file, '-o', 'web:127.0.0.1:0', '--key', `${folder}/key`);
  for (const subject of [
    `channel vm1: ${folder}/none does not exist`,
    'channel vm1 -o ssh:',
    'channel vm1 -o web:',
    `key ${folder}/key`,
  ]) {
    t.true(stdout.includes(subject), subject);
  }
});

test('every kind of channel has a location to check, except inherited ones', (t) => {
  const silent = [...CHANNEL_KINDS].filter(([, kind]) => kind.locate === undefined);
  const kinds = silent.map(([name]) => name);
  t.deepEqual(kinds, ['stdio', 'fd']);
});

testWith('python')('it does not connect to a socket or a port where a QEMU already has a client', async (t) => {
  const path = await listening(t, 'qemu-system-x86', 'minicom');
  await doctor('--timeout', '10', '-c', `unix-connect:${path}`);
  const { stdout: again } = await doctor('--timeout', '10', '--json', '-c', `unix-connect:${path}`);
  t.is(findingsIn(again).filter(({ id }) => id === 'channel-busy').length, 1);
  const { port } = await pretend(t, { program: 'qemu-system-x86', listenTcp: true });
  await pretend(t, { program: 'telnet', connectTcp: port });
  const { stdout } = await doctor('--timeout', '10', '-c', `tcp-connect:127.0.0.1:${port}`);
  t.regex(stdout, /^warn channel default: process \d+ \(telnet/m);
  t.notRegex(stdout, /for a moment/);
});

test('a session continues while the doctor checks both of its sides, and its forwards', async (t) => {
  const folder = temporaryFolder(t);
  const target = await localServer(t, (socket) => void socket.end('hello'));
  const [hostPath, web] = [join(folder, 'c'), join(folder, 'web')];
  const [host, guest] = [
    ['-o', `web:${web}`],
    ['-i', `web:127.0.0.1:${target.port}`],
  ];
  const { sockets, sessions } = await processPair(t, { control: 'both', hostPath, host, guest });
  for (const args of [
    ['-c', `unix-listen:${hostPath}`, ...host, '--socket', sockets[0]],
    ['-c', `unix-connect:${hostPath}`, ...guest, '--socket', sockets[1]],
  ]) {
    const { stdout, code } = await doctor(...args);
    t.is(code, 0, stdout);
    t.regex(stdout, /^ok {3}channel default of .*: a session for .* round trip/m);
  }
  t.deepEqual(sessions(), ONE_SESSION);
  t.is(await ask(t, web, ''), 'hello');
});

test('--timeout is the time of a check, more than half of it for virsh; the default is 2 s', async (t) => {
  const virsh = fakeVirsh(t);
  virsh.become('exec sleep 60');
  const { stdout } = await callVproxy(['doctor', '-c', 'libvirt:vm1', '--timeout', '5'], { env: virsh.env });
  t.regex(stdout, /^fail channel default: no answer from virsh within 3000 ms; do: /m);
  const path = join(temporaryFolder(t), 'control.sock');
  await localServer(t, () => undefined, { path });
  t.regex((await doctor('--timeout', '0.1', '--socket', path)).stdout, /no answer on .* within 100 ms/);
  t.regex((await doctor('--socket', path)).stdout, /no answer on .* within 2000 ms/);
});

test('any value of --timeout yields valid times for every part of a check', async (t) => {
  const { socket } = await spawnControlled(t, ['-c', `unix-listen:${temporaryFolder(t)}/channel`]);
  // A thousand times the first is a little less than 32,001 in floating point, and half of that is not a whole number.
  for (const seconds of ['32.001', '600']) {
    const { stdout } = await doctor('--timeout', seconds, '--socket', socket);
    t.regex(stdout, /^ok {3}control socket: .* answers on /m, seconds);
  }
});
