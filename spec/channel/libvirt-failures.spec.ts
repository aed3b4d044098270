/** What a channel of a libvirt domain says when it cannot be opened, and whether it is tried again. */
import fs from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type ErrorCode, VproxyError } from '../../lib/errors.js';
import { listen, makeFolder } from '../helpers/channel-pair.js';
import { channelXml, dialWith, domainXml, type FakeVirsh, fakeVirsh } from '../helpers/libvirt.js';
import { eventually, ManualClock } from '../helpers/time.js';

async function fails(t: ExecutionContext, attempt: Promise<unknown>, code: ErrorCode, retry: boolean, says: string) {
  const error = await t.throwsAsync(attempt, { instanceOf: VproxyError, code });
  t.is(error.row.retry, retry);
  t.true(error.message.includes(says), error.message);
  t.true(error.message.startsWith('libvirt:'), error.message);
  t.notRegex(error.message, /[\n\u001b]/);
  t.true(error.message.length < 1000);
}

test('virsh is asked read-only, in its own words, and for nothing else', async (t) => {
  const virsh = fakeVirsh(t);
  virsh.print(domainXml());
  await t.throwsAsync(dialWith(t, virsh, 'libvirt:-vm 1,uri=qemu:///system'));
  await t.throwsAsync(dialWith(t, virsh, 'libvirt:3'));
  t.deepEqual(await virsh.calls(), [
    'C --readonly --connect=qemu:///system dumpxml -- -vm 1',
    'C --readonly dumpxml -- 3',
  ]);
});

test('virsh has no input, and no terminal on which it could ask', async (t) => {
  const virsh = fakeVirsh(t);
  virsh.become(
    'read -r line || echo "error: no input" >&2; read -r _ _ _ _ _ sid _ < /proc/$$/stat; echo "error: session $((sid - $$))" >&2; exit 1',
  );
  await fails(t, dialWith(t, virsh, 'libvirt:vm1'), 'channel-failed', true, 'virsh: no input: session 0');
});

const CONNECT = 'failed to connect to the hypervisor';
const SOCKET = "Failed to connect socket to '/var/run/libvirt/libvirt-sock'";
for (const [code, retry, says, ...lines] of [
  ['channel-missing', true, "failed to get domain 'vm1' (it asked its default; uri=", "failed to get domain 'vm1'"],
  [
    'channel-missing',
    true,
    'Domain not found',
    "failed to get domain 'x Permission denied'",
    'Domain not found: no domain',
  ],
  [
    'channel-refused',
    true,
    'No such file or directory (does libvirtd run?)',
    CONNECT,
    `${SOCKET}: No such file or directory`,
  ],
  ['channel-refused', true, 'Connection refused', CONNECT, `${SOCKET}: Connection refused`],
  ['channel-denied', false, 'Permission denied', CONNECT, `${SOCKET}: Permission denied`],
  [
    'channel-denied',
    false,
    'authentication unavailable',
    CONNECT,
    'authentication unavailable: no polkit agent available',
  ],
  ['channel-denied', false, 'access denied', 'access denied: no'],
  ['channel-failed', true, 'Timed out \\x1b[2J', 'Timed out \u001b[2J'],
  ['channel-failed', true, 'xxx…', 'x'.repeat(200_000)],
] as const) {
  test(`what virsh says is told, as ${code}: ${lines.join('; ').slice(0, 150)}`, async (t) => {
    const virsh = fakeVirsh(t);
    virsh.become(`cat >&2 <<'END'\n${lines.map((line) => `error: ${line}\n`).join('')}\nEND\nexit 1`);
    const clock = new ManualClock();
    const attempt = dialWith(t, virsh, 'libvirt:vm1', { clock });
    const failure = fails(t, attempt, code, retry, says);
    if (code === 'channel-denied') await advanceUntilTwo(clock, async () => (await virsh.calls()).length);
    await failure;
    t.is((await virsh.calls()).length, code === 'channel-denied' ? 2 : 1);
  });
}

/** Moves the clock as fast as time passes, until a second call was made. */
async function advanceUntilTwo(clock: ManualClock, callCount: () => Promise<number>): Promise<void> {
  await eventually(async () => {
    clock.advance(20);
    return (await callCount()) === 2;
  });
}

test('a virsh that is missing, or that cannot be run, is not asked again', async (t) => {
  const folder = await makeFolder(t);
  const file = path.join(folder, 'virsh');
  await fails(
    t,
    dialWith(t, file, 'libvirt:vm1'),
    'channel-unusable',
    false,
    'virsh is missing (Debian: libvirt-clients)',
  );
  await fs.writeFile(file, 'x', { mode: 0o644 });
  await fails(t, dialWith(t, file, 'libvirt:vm1'), 'channel-unusable', false, 'virsh cannot be run');
});

for (const [script, says] of [
  ['exit 3', 'virsh ended with 3 and said nothing'],
  ['kill -SEGV $$', 'virsh ended with SIGSEGV and said nothing'],
  ['', 'what virsh printed: it is no XML: there is no element'],
  ['echo "<domain id=\'1\'>"', 'it is no XML: <domain> has no end'],
  ['echo "<network/>"', 'it is no domain but <network>'],
  ['head -c 1048577 /dev/zero', 'virsh printed more than 1048576 bytes'],
  ['while :; do echo "<!-- -->"; done', 'virsh printed more than 1048576 bytes'],
] as const) {
  test(`an answer that is none is tried again: ${script}`, async (t) => {
    const virsh = fakeVirsh(t);
    virsh.become(script);
    await fails(t, dialWith(t, virsh, 'libvirt:vm1'), 'channel-failed', true, says);
  });
}

/** A virsh that hangs, and has started another process that does. */
function hang(virsh: FakeVirsh, file: string): void {
  virsh.become(`sleep 1000 & echo $! $$ > ${file}.new; mv ${file}.new ${file}; wait`);
}

/** Resolves when the processes of a file are gone. */
async function gone(file: string): Promise<void> {
  for (const pid of (await fs.readFile(file, 'utf8')).trim().split(' ')) {
    await eventually(async () => {
      const stat = await fs.readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ') Z ');
      return stat.includes(') Z ');
    });
  }
}

test('a virsh that does not answer for 10 s is killed, with what it has started', async (t) => {
  const virsh = fakeVirsh(t);
  const file = path.join(await makeFolder(t), 'pids');
  hang(virsh, file);
  const clock = new ManualClock();
  const failure = fails(
    t,
    dialWith(t, virsh, 'libvirt:vm1', { clock }),
    'channel-failed',
    true,
    'virsh did not answer for 10 s',
  );
  await eventually(async () => fs.stat(file));
  clock.advance(10_000);
  await failure;
  await gone(file);
});

test('dialling that is given up kills virsh, and rejects with shutdown', async (t) => {
  const virsh = fakeVirsh(t);
  const file = path.join(await makeFolder(t), 'pids');
  hang(virsh, file);
  const abort = new AbortController();
  const failure = fails(t, dialWith(t, virsh, 'libvirt:vm1', { signal: abort.signal }), 'shutdown', true, 'given up');
  await eventually(async () => fs.stat(file));
  abort.abort();
  await failure;
  await gone(file);
  const calls = await virsh.calls();
  await fails(t, dialWith(t, virsh, 'libvirt:vm1', { signal: abort.signal }), 'shutdown', true, 'given up');
  t.deepEqual(await virsh.calls(), calls);
});

test('four virsh run at once, the others wait for them, and who waits can give up', async (t) => {
  const [virsh, other] = [fakeVirsh(t), fakeVirsh(t)];
  virsh.become('exec sleep 1000');
  other.print(domainXml());
  const abort = new AbortController();
  const hanging = [1, 2, 3, 4].map((id) =>
    t.throwsAsync(dialWith(t, virsh, `libvirt:${id}`, { signal: abort.signal })),
  );
  await eventually(async () => (await virsh.calls()).length === 4);
  const impatient = new AbortController();
  const failure = fails(t, dialWith(t, other, 'libvirt:5', { signal: impatient.signal }), 'shutdown', true, 'given up');
  const next = fails(t, dialWith(t, other, 'libvirt:6'), 'channel-missing', true, 'there are: none');
  impatient.abort();
  await failure;
  t.deepEqual(await other.calls(), []);
  abort.abort();
  await Promise.all([...hanging, next]);
  t.is((await other.calls()).length, 1);
});

const BIND = "<source mode='bind' path='/nowhere/vproxy.sock'/>";
const GUEST_AGENT = channelXml('unix', BIND, 'org.qemu.guest_agent.0');
for (const [what, xml, code, retry, says, text = 'libvirt:vm1'] of [
  [
    'a domain that is shut off',
    domainXml(channelXml('unix', BIND)).replace(" id='3'", ''),
    'channel-missing',
    true,
    'the domain is not running',
  ],
  [
    'no port',
    domainXml(),
    'channel-missing',
    true,
    'no virtio port whose name begins with org.vproxy.; there are: none',
  ],
  [
    'ports of others',
    domainXml(GUEST_AGENT),
    'channel-missing',
    true,
    'begins with org.vproxy.; there are: org.qemu.guest_agent.0',
  ],
  [
    'another port',
    domainXml(channelXml('unix', BIND), GUEST_AGENT),
    'channel-missing',
    true,
    'named a; there are: org.vproxy.0, org.qemu.guest_agent.0',
    'libvirt:vm1:a',
  ],
  [
    'several ports',
    domainXml(channelXml('unix', BIND), channelXml('unix', BIND, 'org.vproxy.1'), GUEST_AGENT),
    'channel-unusable',
    false,
    'say which: org.vproxy.0, org.vproxy.1',
  ],
  [
    'many ports',
    domainXml(...Array.from({ length: 99 }, (_, index) => channelXml('unix', BIND, `port${index}`))),
    'channel-missing',
    true,
    'port15, …',
  ],
  [
    'no virtio port',
    domainXml(
      "<channel type='unix'><source mode='bind' path='/x'/><target type='guestfwd' name='org.vproxy.0'/></channel>",
      "<console type='pty'><target type='virtio' name='org.vproxy.0'/></console>",
      "<channel type='pty'><target type='virtio'/></channel>",
    ),
    'channel-missing',
    true,
    'there are: none',
  ],
  [
    'a port outside of its devices',
    `<domain id='1'><x>${channelXml('unix', BIND)}</x><metadata><devices>${channelXml('unix', BIND)}</devices></metadata></domain>`,
    'channel-missing',
    true,
    'there are: none',
  ],
  [
    'a path that is gone',
    domainXml(channelXml('unix', BIND)),
    'channel-missing',
    true,
    'unix-connect:/nowhere/vproxy.sock is missing (ENOENT)',
  ],
  [
    'a path that is none',
    domainXml(channelXml('unix', `<source mode='bind' path='/${'x'.repeat(107)}'/>`)),
    'channel-unusable',
    false,
    '108 bytes, the system allows 107',
  ],
  [
    'no path',
    domainXml(channelXml('unix', "<source mode='bind'/>")),
    'channel-unusable',
    false,
    'of type unix has no path',
  ],
  ['no source', domainXml(channelXml('unix', '')), 'channel-unusable', false, 'of type unix has no path'],
  [
    'QEMU that connects',
    domainXml(channelXml('unix', "<source mode='connect' path='/run/a'/>")),
    'channel-unusable',
    false,
    "its port org.vproxy.0 has mode='connect', so that QEMU connects and this side listens: -c unix-listen:/run/a is what it needs",
  ],
  [
    'QEMU that connects by TCP',
    domainXml(channelXml('tcp', "<source mode='connect' host='::1' service='90'/>")),
    'channel-unusable',
    false,
    '-c tcp-listen:[::1]:90 is what it needs',
  ],
  [
    'TCP without a port',
    domainXml(channelXml('tcp', "<source mode='bind' host='127.0.0.1'/>")),
    'channel-unusable',
    false,
    'has no service',
  ],
  [
    'TCP with a word for a port',
    domainXml(channelXml('tcp', "<source mode='bind' host='127.0.0.1' service='ssh'/>")),
    'channel-unusable',
    false,
    'is not HOST:PORT',
  ],
  [
    'telnet',
    domainXml(channelXml('tcp', "<source mode='bind' host='127.0.0.1' service='90'/><protocol type='telnet'/>")),
    'channel-unusable',
    false,
    'speaks telnet',
  ],
  [
    'TLS',
    domainXml(channelXml('tcp', "<source mode='bind' host='127.0.0.1' service='90' tls='yes'/><protocol type='raw'/>")),
    'channel-unusable',
    false,
    'speaks tls',
  ],
  [
    'another machine',
    domainXml(channelXml('tcp', "<source mode='bind' host='192.0.2.1' service='90'/>")),
    'channel-unusable',
    false,
    'is at 192.0.2.1, which is no address of this machine',
  ],
  [
    'a name of a machine',
    domainXml(channelXml('tcp', "<source mode='bind' host='toString' service='90'/>")),
    'channel-unusable',
    false,
    'is at toString',
  ],
  [
    'spice',
    domainXml(channelXml('spicevmc', '', 'com.redhat.spice.0')),
    'channel-unusable',
    false,
    'is of type spicevmc; vproxy takes unix, tcp, pty, pipe',
    'libvirt:vm1:com.redhat.spice.0',
  ],
  [
    'a type that no object has',
    domainXml(channelXml('constructor', BIND)),
    'channel-unusable',
    false,
    'is of type constructor',
  ],
  [
    'FIFOs that are gone',
    domainXml(channelXml('pipe', "<source path='/nowhere/pipe'/>")),
    'channel-missing',
    true,
    '/nowhere/pipe.out',
  ],
] as const) {
  test(`${what} is ${code}`, async (t) => {
    const virsh = fakeVirsh(t);
    virsh.print(xml);
    await fails(t, dialWith(t, virsh, text), code, retry, says);
  });
}

test('what is denied at first, as while a domain starts, is tried once more a second later', async (t) => {
  const virsh = fakeVirsh(t);
  const clock = new ManualClock();
  const denied = "echo 'error: access denied' >&2; exit 1";
  virsh.become(denied);
  const file = path.join(await makeFolder(t), 'channel.sock');
  await listen(t, `unix-listen:${file}`, { onLink: (link) => t.teardown(() => link.destroy()) });
  const attempt = dialWith(t, virsh, 'libvirt:vm1', { clock });
  await eventually(async () => (await virsh.calls()).length === 1);
  virsh.print(domainXml(channelXml('unix', `<source mode='bind' path='${file}'/>`)));
  await advanceUntilTwo(clock, async () => (await virsh.calls()).length);
  t.is((await attempt).description, `unix-connect:${file}`);
});
