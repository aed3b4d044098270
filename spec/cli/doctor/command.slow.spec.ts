/** `vproxy doctor` as a command: its arguments, its output, its status, and that it disturbs nothing. */
import { once } from 'node:events';
import { mkdirSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { join } from 'node:path';
import test from 'ava';
import type { Diagnosis } from '../../../cli/doctor/diagnosis.js';
import { FINDINGS, type FindingId } from '../../../cli/doctor/findings.js';
import { RUN_OPTIONS } from '../../../cli/run/options.js';
import { CHANNEL_KINDS } from '../../../lib/channel/kinds.js';
import { temporaryFolder } from '../../helpers/files.js';
import { fakeVirsh } from '../../helpers/libvirt.js';
import { pretend } from '../../helpers/machines.js';
import { localServer } from '../../helpers/proxies.js';
import { testWith } from '../../helpers/test-with.js';
import { ESTABLISHED, runVproxy, spawnVproxy, TAKING_CONTROL } from '../../helpers/vproxy-process.js';

test('a finding is a line: how bad it is, what it is about, what was found, and what to do', async (t) => {
  const path = join(temporaryFolder(t), 'none.sock');
  const { stdout, stderr, code } = await runVproxy(['doctor', '-c', `vm1=unix-connect:${path}`]);
  t.is(stderr, '');
  t.is(code, 1);
  t.true(stdout.includes(`\nfail channel vm1: there is no ${path}; do: start the VM `));
  for (const line of stdout.trimEnd().split('\n')) t.regex(line, /^(ok {2}|note|warn|fail) \S.*: \S/);
});

test('with --json each is an object, of which the levels are those of the table', async (t) => {
  const { stdout } = await runVproxy([
    'doctor',
    '--json',
    '-c',
    `unix-listen:${temporaryFolder(t)}/s`,
    '--key',
    '/no/key',
  ]);
  const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: (Diagnosis & { id: FindingId })[] };
  t.false(ok);
  t.true(findings.length >= 3);
  for (const { id, check, subject, level, message, remedy } of findings) {
    t.is(level, FINDINGS[id].level);
    for (const text of [check, subject, message]) t.true(text.length > 0);
    t.true(remedy === null || remedy.length > 0);
  }
  t.like(
    findings.find(({ id }) => id === 'listen-free'),
    { check: 'unix-listen', subject: 'channel default', level: 'ok', remedy: null },
  );
});

test('where nothing fails the status is 0', async (t) => {
  const { stdout, code } = await runVproxy([
    'doctor',
    '-c',
    `unix-listen:${temporaryFolder(t)}/s`,
    '-o',
    'ssh:127.0.0.1:0',
  ]);
  t.notRegex(stdout, /^fail/m);
  t.is(code, 0);
});

test('it takes every option of the command that runs a proxy', async (t) => {
  const folder = temporaryFolder(t);
  const values: Readonly<Record<string, string | null>> = {
    channel: `vm1=unix-listen:${folder}/c`,
    outgoing: '*:vsock-mux:/nowhere/x',
    incoming: 'ssh:22',
    'vsock-port': '22=ssh',
    'dead-after': '5',
    buffer: '65536',
    'allow-exec': null,
    'allow-copy': null,
    wait: '1',
    'storage-socket': `${folder}/storage`,
    'storage-parallel': '2',
    control: `${folder}/control`,
    metrics: '127.0.0.1:0',
    audit: `${folder}/audit`,
    'log-format': 'json',
    key: `${folder}/key`,
    egress: 'web:allow=a.example:80,443',
    'announce-ports': '3000-9999',
    'forward-ports': '3000-9999',
    name: 'vm1',
  };
  const left: readonly string[] = ['config', 'print-config', 'json', 'no-control', 'no-info', 'no-storage', 'quiet'];
  const words = Object.entries(RUN_OPTIONS)
    .filter(([name]) => !left.includes(name))
    .flatMap(([name, { value }]) =>
      value !== undefined && values[name] !== null ? [`--${name}`, values[name] ?? ''] : [`--${name}`],
    );
  const { stdout, stderr, code } = await runVproxy(['doctor', '--json', ...words]);
  t.is(stderr, '');
  t.is(code, 1);
  const { findings } = JSON.parse(stdout) as { findings: (Diagnosis & { id: FindingId })[] };
  t.deepEqual(
    findings.filter(({ id }) => id === 'config-invalid'),
    [],
  );
  t.true(findings.some(({ subject }) => subject.includes('-o *:vsock-mux:/nowhere/x')));
});

test('an argument that is wrong is one line, and 64', async (t) => {
  for (const [args, line] of [
    [['--bogus'], /--bogus: no such option/],
    [['-c', 'bogus:x'], /bogus:x/],
    [['-c', 'stdio:', '--wait', 'x'], /--wait/],
    [['word'], /"word"/],
    [['-o', 'ssh:22'], /-c: the channel is missing/],
    [['--insecure=yes'], /takes no value/],
    [['--timeout', '0'], /--timeout: "0" is not a number of seconds from 0\.1 to 600, or a time such as/],
  ] as const) {
    const { stderr, stdout, code } = await runVproxy(['doctor', ...args]);
    t.is(stdout, '');
    t.regex(stderr, line);
    t.is(stderr.trimEnd().split('\n').length, 1);
    t.is(code, 64);
  }
});

test('a file says what is to be looked at, and the command line more', async (t) => {
  const folder = temporaryFolder(t);
  const file = join(folder, 'vproxy.toml');
  writeFileSync(file, `[channels.vm1]\naddress = "unix-connect:${folder}/none"\noutgoing = ["ssh:127.0.0.1:0"]\n`);
  const { stdout } = await runVproxy(['doctor', '--config', file, '-o', 'web:127.0.0.1:0', '--key', `${folder}/key`]);
  for (const subject of [
    'channel vm1: there is no',
    'channel vm1 -o ssh:',
    'channel vm1 -o web:',
    `key ${folder}/key: there is no`,
  ]) {
    t.true(stdout.includes(subject), subject);
  }
});

test('every kind of channel says what the doctor looks at, but for those that a process is started with', (t) => {
  t.deepEqual(
    [...CHANNEL_KINDS].filter(([, kind]) => kind.locate === undefined).map(([name]) => name),
    ['stdio', 'fd'],
  );
});

testWith('python')('nobody connects to a socket on which a QEMU listens', async (t) => {
  const path = join(temporaryFolder(t), 's');
  await pretend(t, { program: 'qemu-system-x86', listen: path });
  await pretend(t, { program: 'minicom', connect: path });
  await runVproxy(['doctor', '-c', `unix-connect:${path}`]);
  const { stdout } = await runVproxy(['doctor', '--json', '-c', `unix-connect:${path}`]);
  const { findings } = JSON.parse(stdout) as { findings: (Diagnosis & { id: FindingId })[] };
  t.is(findings.filter(({ id }) => id === 'socket-taken').length, 1);
});

testWith('python')('nobody connects to a port on which a QEMU serves somebody', async (t) => {
  const { port } = await pretend(t, { program: 'qemu-system-x86', listenTcp: true });
  await pretend(t, { program: 'telnet', connectTcp: port });
  const { stdout } = await runVproxy(['doctor', '-c', `tcp-connect:127.0.0.1:${port}`]);
  t.regex(stdout, /^warn channel default: process \d+ \(telnet/m);
  t.notRegex(stdout, /for a moment/);
});

test('a session goes on while the doctor looks at both of its sides, and at its forwards', async (t) => {
  const folder = temporaryFolder(t);
  const target = await localServer(t, (socket) => void socket.end('hello'));
  const host = ['-c', `unix-listen:${folder}/c`, '-o', `web:${folder}/web`, '--control', `${folder}/host.sock`];
  const guest = [
    '-c',
    `unix-connect:${folder}/c`,
    '-i',
    `web:127.0.0.1:${target.port}`,
    '--control',
    `${folder}/guest.sock`,
  ];
  const [left, right] = [spawnVproxy(t, host), spawnVproxy(t, guest)];
  await Promise.all([left, right].flatMap((side) => [side.waitForLine(ESTABLISHED), side.waitForLine(TAKING_CONTROL)]));
  for (const [args, control] of [
    [host, 'host.sock'],
    [guest, 'guest.sock'],
  ] as const) {
    const { stdout, code } = await runVproxy(['doctor', ...args, '--socket', join(folder, control)]);
    t.is(code, 0, stdout);
    t.regex(stdout, /^ok {3}channel default of .*: a session for .* round trip/m);
  }
  t.deepEqual(
    [...left.lines, ...right.lines].filter((line) => /ended|displaced/.test(line)),
    [],
  );
  const socket = net.connect(`${folder}/web`);
  const [bytes] = (await once(socket, 'data')) as [Buffer];
  t.is(String(bytes), 'hello');
});

test('a FIFO, a folder without an end, and a socket that says nothing do not hold it up', async (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'd'));
  await localServer(t, () => undefined, { path: join(folder, 'control.sock') });
  const began = performance.now();
  const { stdout } = await runVproxy([
    'doctor',
    '-c',
    `pipe-open:${folder}/p`,
    '--socket',
    join(folder, 'control.sock'),
  ]);
  t.regex(stdout, /does not answer within 2000 ms/);
  t.true(performance.now() - began < 10_000);
});

test('--timeout is the time of a check, of which virsh has more than half', async (t) => {
  const virsh = fakeVirsh(t);
  virsh.become('exec sleep 60');
  const { stdout } = await runVproxy(['doctor', '-c', 'libvirt:vm1', '--timeout', '5'], { env: virsh.env });
  t.regex(stdout, /^fail channel default: virsh did not answer within 3000 ms; do: /m);
  const folder = temporaryFolder(t);
  await localServer(t, () => undefined, { path: join(folder, 'control.sock') });
  const silent = await runVproxy(['doctor', '--timeout', '0.1', '--socket', join(folder, 'control.sock')]);
  t.regex(silent.stdout, /does not answer within 100 ms/);
});

test('any time that --timeout takes is one that every part of a check can have', async (t) => {
  const control = join(temporaryFolder(t), 'control.sock');
  const vproxy = spawnVproxy(t, ['-c', `unix-listen:${control}.channel`, '--control', control]);
  await vproxy.waitForLine(TAKING_CONTROL);
  // A thousand times the first is a little less than 32,001 in floating point, and half of that is not a whole number.
  for (const seconds of ['32.001', '600']) {
    const { stdout } = await runVproxy(['doctor', '--timeout', seconds, '--socket', control]);
    t.regex(stdout, /^ok {3}control socket: .* answers on /m, seconds);
  }
});

test('what a peer or a file name says is shown escaped', async (t) => {
  const path = join(temporaryFolder(t), 'a\u001b[2Jb');
  writeFileSync(path, '');
  const { stdout } = await runVproxy(['doctor', '-c', `unix-connect:${path}`]);
  t.false(stdout.includes('\u001b'));
  t.true(stdout.includes('\\x1b[2J'));
});
