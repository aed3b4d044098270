/** Channels of libvirt domains: which port is opened, the message if that fails, and whether virsh is asked again. */

import { readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import type { DialContext } from '../../lib/channel/kind.js';
import { libvirtKind } from '../../lib/channel/libvirt.js';
import { type ErrorCode } from '../../lib/errors.js';
import type { Link } from '../../lib/link/link.js';
import type { Clock } from '../../lib/util/clock.js';
import { dialKind, listen, makeFifo, patiently, record, refuses } from '../helpers/channel-pair.js';
import { temporaryFolder } from '../helpers/files.js';
import { channelXml, domainXml, type FakeVirsh, fakeVirsh } from '../helpers/libvirt.js';
import { portOf } from '../helpers/proxies.js';
import { openPty } from '../helpers/terminals.js';
import { testWith } from '../helpers/test-with.js';
import { eventually, ManualClock } from '../helpers/time.js';
import { isRunning } from '../helpers/vproxy-process.js';

/** Sends hello through a link, and waits for its echo. */
async function hears(t: ExecutionContext, link: Link): Promise<void> {
  const handler = record(link);
  link.write(Buffer.from('hello'));
  await handler.received(5);
  t.is(handler.bytes.toString(), 'hello');
}

/** Listens on a channel, and echoes what it receives. */
const listenEcho = (t: ExecutionContext, text: string): ReturnType<typeof listen> =>
  listen(t, text, {
    onLink(link) {
      t.teardown(() => link.destroy());
      const nothing = () => undefined;
      const onBytes = (bytes: Buffer) => link.write(Buffer.from(bytes)) && false;
      link.start({ onBytes, onDrain: nothing, onClosed: nothing });
    },
  });

/** Dials the port of a domain printed by virsh. */
function dialDomain(t: ExecutionContext, xml: string, text = 'libvirt:vm1'): Promise<Link> {
  const virsh = fakeVirsh(t);
  virsh.print(xml);
  return dialWith(t, virsh, text);
}

const OTHER = channelXml('unix', "<source mode='bind' path='/nowhere/other.sock'/>");

/** QEMU ports with an echo behind them. */
const PORTS: Record<string, (t: ExecutionContext) => Promise<string> | string> = {
  'a terminal': async (t) => {
    const pty = await openPty(t);
    pty.output.pipe(pty.input);
    return channelXml('pty', `<source path='${pty.path}'/>`);
  },
  'two FIFOs': (t) => {
    const file = makeFifo(t);
    for (const end of ['in', 'out']) symlinkSync(file, `${file}.${end}`);
    return channelXml('pipe', `<source path='${file}'/>`);
  },
  'a path with every character that XML can say, behind comments and in any quotes': async (t) => {
    const file = join(temporaryFolder(t), `a & <b> "c" 'd':-`);
    await listenEcho(t, `unix-listen:${file}:-`);
    const written = file.replace(/[&<"]/g, (character) => `&#${character.charCodeAt(0)};`).replaceAll("'", '&apos;');
    const source = `<source  mode = "bind"\n path="${written}"></source>`;
    return `<!-- ${OTHER} --><![CDATA[${OTHER}]]>${channelXml('unix', source)}`;
  },
};
for (const host of ['127.0.0.1', 'localhost', '', '0.0.0.0']) {
  PORTS[`a TCP port at "${host}"`] = async (t) => {
    const { description } = await listenEcho(t, 'tcp-listen:127.0.0.1:0');
    return channelXml('tcp', `<source mode='bind' host='${host}' service='${portOf(description)}'/>`);
  };
}

for (const [what, make] of Object.entries(PORTS)) {
  test(`${what} is opened`, async (t) => {
    await hears(t, await dialDomain(t, domainXml(await make(t))));
  });
}

testWith('virsh')('the output of the real virsh is parsed, with domains from a file', async (t) => {
  const folder = temporaryFolder(t);
  const socket = join(folder, 'a&b.sock');
  await listenEcho(t, `unix-listen:${socket}`);
  const port = channelXml('unix', `<source mode='bind' path='${socket.replace('&', '&amp;')}'/>`);
  const domain = (name: string, more = '') =>
    `<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>${name}</name>
      <memory>8192</memory><os><type>hvm</type></os><devices>${port}</devices>${more}</domain>`;
  const node = `<node>${domain('-vm 1')}${domain('off', '<test:runstate>5</test:runstate>')}</node>`;
  writeFileSync(join(folder, 'node.xml'), node);
  const uri = `uri=test://${folder}/node.xml`;
  const rejects = (text: string, code: string, message: RegExp) =>
    t.throwsAsync(dialWith(t, 'virsh', text), { code, message });
  await hears(t, await dialWith(t, 'virsh', `libvirt:-vm 1,${uri}`));
  await hears(t, await dialWith(t, 'virsh', `libvirt:1:org.vproxy.0,${uri}`));
  await rejects(`libvirt:none,${uri}`, 'channel-missing', /virsh: failed to get domain 'none'$/);
  await rejects(`libvirt:off,${uri}`, 'channel-missing', /the domain is not running$/);
  const nobody = `uri=qemu+unix:///system?socket=${folder}/none`;
  await rejects(`libvirt:vm1,${nobody}`, 'channel-refused', /; check that libvirtd runs: systemctl status /);
  await rejects(`libvirt:vm1,uri=test://${folder}/none.xml`, 'channel-failed', /failed to parse xml document/);
});

// Failures.

async function fails(t: ExecutionContext, attempt: Promise<unknown>, code: ErrorCode, says: string) {
  const message = await refuses(t, attempt, code, says, 'libvirt:');
  t.true(message.length < 1000);
}

test('virsh is called read-only, in its own syntax, and for nothing else', async (t) => {
  const virsh = fakeVirsh(t);
  virsh.print(domainXml());
  await t.throwsAsync(dialWith(t, virsh, 'libvirt:-vm 1,uri=qemu:///system'));
  await t.throwsAsync(dialWith(t, virsh, 'libvirt:3'));
  t.deepEqual(await virsh.calls(), [
    'C --readonly --connect=qemu:///system dumpxml -- -vm 1',
    'C --readonly dumpxml -- 3',
  ]);
});

/** Advances the clock with real time until virsh was called twice. */
async function advanceUntilTwo(clock: ManualClock, virsh: FakeVirsh): Promise<void> {
  await eventually(async () => {
    clock.advance(20);
    return (await virsh.calls()).length === 2;
  });
}

const CONNECT = 'failed to connect to the hypervisor';
const SOCKET = "Failed to connect socket to '/var/run/libvirt/libvirt-sock'";
for (const [code, says, ...lines] of [
  ['channel-missing', "failed to get domain 'vm1'; virsh list --all; add uri=", "failed to get domain 'vm1'"],
  ['channel-missing', 'Domain not found', "failed to get domain 'x Permission denied'", 'Domain not found: no domain'],
  ['channel-refused', 'directory; check that libvirtd runs: ', CONNECT, `${SOCKET}: No such file or directory`],
  ['channel-refused', 'Connection refused', CONNECT, `${SOCKET}: Connection refused`],
  ['channel-denied', 'Permission denied', CONNECT, `${SOCKET}: Permission denied`],
  ['channel-denied', 'authentication unavailable', CONNECT, 'authentication unavailable: no polkit agent available'],
  ['channel-denied', 'access denied', 'access denied: no'],
  ['channel-failed', 'Timed out \\x1b[2J', 'Timed out \u001b[2J'],
  ['channel-failed', 'xxx…', 'x'.repeat(200_000)],
] as const) {
  test(`an error of virsh is reported as ${code}: ${lines.join('; ').slice(0, 150)}`, async (t) => {
    const virsh = fakeVirsh(t);
    virsh.become(`cat >&2 <<'END'\n${lines.map((line) => `error: ${line}\n`).join('')}\nEND\nexit 1`);
    const clock = new ManualClock();
    const failure = fails(t, dialWith(t, virsh, 'libvirt:vm1', { clock }), code, says);
    if (code === 'channel-denied') await advanceUntilTwo(clock, virsh);
    await failure;
    t.is((await virsh.calls()).length, code === 'channel-denied' ? 2 : 1);
  });
}

test('a socket that is denied at first, as while a domain starts, is retried once after a second', async (t) => {
  const virsh = fakeVirsh(t);
  const clock = new ManualClock();
  virsh.become("echo 'error: access denied' >&2; exit 1");
  const file = join(temporaryFolder(t), 'channel.sock');
  await listen(t, `unix-listen:${file}`, { onLink: (link) => t.teardown(() => link.destroy()) });
  const attempt = dialWith(t, virsh, 'libvirt:vm1', { clock });
  await eventually(async () => (await virsh.calls()).length === 1);
  virsh.print(domainXml(channelXml('unix', `<source mode='bind' path='${file}'/>`)));
  await advanceUntilTwo(clock, virsh);
  t.is((await attempt).description, `unix-connect:${file}`);
});

test('a missing virsh, or one that cannot be run, is not retried', async (t) => {
  const file = join(temporaryFolder(t), 'virsh');
  for (const says of ['virsh is missing', 'virsh cannot be run']) {
    await fails(
      t,
      dialWith(t, file, 'libvirt:vm1'),
      'channel-unusable',
      `${says}; install virsh (Debian: libvirt-clients)`,
    );
    writeFileSync(file, 'x', { mode: 0o644 });
  }
});

/** Reports whether there is input, and whether the process leads a session: then it could prompt on a terminal. */
const ASK =
  'read -r line || echo "error: no input" >&2; read -r _ _ _ _ _ sid _ < /proc/$$/stat; echo "error: session $((sid - $$))" >&2; exit 1';

for (const [script, says] of [
  [ASK, 'virsh: no input: session 0'],
  ['exit 3', 'virsh exited with 3 and no output'],
  ['kill -SEGV $$', 'virsh exited with SIGSEGV and no output'],
  ['', 'unexpected output of virsh: not valid XML: no element'],
  ['echo "<domain id=\'1\'>"', 'not valid XML: <domain> is not closed'],
  ['echo "<network/>"', 'not <domain> but <network>'],
  ['head -c 1048577 /dev/zero', 'virsh printed more than 1048576 bytes'],
  ['while :; do echo "<!-- -->"; done', 'virsh printed more than 1048576 bytes'],
] as const) {
  test(`an invalid answer is retried: ${script}`, async (t) => {
    const virsh = fakeVirsh(t);
    virsh.become(script);
    await fails(t, dialWith(t, virsh, 'libvirt:vm1', { clock: new ManualClock() }), 'channel-failed', says);
  });
}

for (const [what, code, says] of [
  ['is cancelled', 'shutdown', 'cancelled'],
  ['gets no answer for 10 s', 'channel-failed', 'no answer from virsh within 10 s'],
] as const) {
  test(`dialling that ${what} kills virsh and its children`, async (t) => {
    const virsh = fakeVirsh(t);
    const file = join(temporaryFolder(t), 'pids');
    virsh.become(`sleep 1000 & echo $! $$ > ${file}.new; mv ${file}.new ${file}; wait`);
    const [clock, abort] = [new ManualClock(), new AbortController()];
    const attempt = () => dialWith(t, virsh, 'libvirt:vm1', { clock, signal: abort.signal });
    const failure = fails(t, attempt(), code, says);
    await eventually(() => statSync(file));
    if (code === 'shutdown') abort.abort();
    else clock.advance(10_000);
    await failure;
    const pids = readFileSync(file, 'utf8').trim().split(' ').map(Number);
    await eventually(() => !pids.some(isRunning), { what: `the end of ${pids.join()}` });
    if (code !== 'shutdown') return;
    await fails(t, attempt(), 'shutdown', 'cancelled');
    t.is((await virsh.calls()).length, 1);
  });
}

test('four virsh run at once, others wait for them, and waiting can be cancelled', async (t) => {
  const [virsh, other] = [fakeVirsh(t), fakeVirsh(t)];
  virsh.become('exec sleep 1000');
  other.print(domainXml());
  const [abort, impatient] = [new AbortController(), new AbortController()];
  const hanging = [1, 2, 3, 4].map((id) =>
    t.throwsAsync(dialWith(t, virsh, `libvirt:${id}`, { signal: abort.signal })),
  );
  await eventually(async () => (await virsh.calls()).length === 4);
  const failure = fails(t, dialWith(t, other, 'libvirt:5', { signal: impatient.signal }), 'shutdown', 'cancelled');
  const next = fails(t, dialWith(t, other, 'libvirt:6'), 'channel-missing', 'it has: none');
  impatient.abort();
  await failure;
  t.deepEqual(await other.calls(), []);
  abort.abort();
  await Promise.all([...hanging, next]);
  t.is((await other.calls()).length, 1);
});

const unixXml = (path: string, name?: string): string =>
  channelXml('unix', `<source mode='bind' path='${path}'/>`, name);
const PORT = unixXml('/nowhere/vproxy.sock');
const AGENT = unixXml('/nowhere/vproxy.sock', 'org.qemu.guest_agent.0');
const MANY = Array.from({ length: 99 }, (_, index) => unixXml('/nowhere/vproxy.sock', `port${index}`));
const SPICE = channelXml('spicevmc', '', 'com.redhat.spice.0');
/** A TCP port, with attributes of its source, and elements beside it. */
const tcpXml = (source: string, beside = '', mode = 'bind'): string =>
  channelXml('tcp', `<source mode='${mode}' ${source}/>${beside}`);
const LOCAL = "host='127.0.0.1' service='90'";
const LISTENS =
  "its port org.vproxy.0 has mode='connect', so QEMU connects and this side must listen: use -c unix-listen:/run/a";
const ODD = [
  "<channel type='unix'><source mode='bind' path='/x'/><target type='guestfwd' name='org.vproxy.0'/></channel>",
  "<console type='pty'><target type='virtio' name='org.vproxy.0'/></console>",
  "<channel type='pty'><target type='virtio'/></channel>",
];

type Cases = Readonly<Record<string, readonly [xml: string, says: string, text?: string]>>;

/** Domains whose port is missing, perhaps only for now: their XML, the message, and the channel. */
const MISSING: Cases = {
  'a domain that is shut off': [domainXml(PORT).replace(" id='3'", ''), 'the domain is not running'],
  'no port': [domainXml(), 'no virtio port whose name begins with org.vproxy.; it has: none'],
  'ports of others': [domainXml(AGENT), 'begins with org.vproxy.; it has: org.qemu.guest_agent.0'],
  'another port': [
    domainXml(PORT, AGENT),
    'no virtio port "a"; it has: org.vproxy.0, org.qemu.guest_agent.0',
    'libvirt:vm1:a',
  ],
  'many ports': [domainXml(...MANY), 'port15, …'],
  'no virtio port': [domainXml(...ODD), 'it has: none'],
  'a port outside of its devices': [`<domain id='1'><x>${PORT}</x><y><devices>${PORT}</devices></y></domain>`, 'none'],
  'a path that no longer exists': [
    domainXml(PORT),
    'unix-connect:/nowhere/vproxy.sock: its folder does not exist (ENOENT)',
  ],
  'FIFOs that no longer exist': [domainXml(channelXml('pipe', "<source path='/nowhere/pipe'/>")), '/nowhere/pipe.out'],
};

/** Ports that can never be opened. */
const UNUSABLE: Cases = {
  'several ports': [domainXml(PORT, unixXml('/x', 'org.vproxy.1'), AGENT), 'choose one: org.vproxy.0, org.vproxy.1'],
  'an invalid path': [domainXml(unixXml(`/${'x'.repeat(107)}`)), '108 bytes (max 107)'],
  'no path': [domainXml(channelXml('unix', "<source mode='bind'/>")), 'of type unix has no path'],
  'no source': [domainXml(channelXml('unix', '')), 'of type unix has no path'],
  'QEMU that connects': [domainXml(channelXml('unix', "<source mode='connect' path='/run/a'/>")), LISTENS],
  'QEMU that connects by TCP': [
    domainXml(tcpXml("host='::1' service='90'", '', 'connect')),
    'use -c tcp-listen:[::1]:90',
  ],
  'TCP without a port': [domainXml(tcpXml("host='127.0.0.1'")), 'has no service'],
  'TCP with a word for a port': [domainXml(tcpXml("host='127.0.0.1' service='ssh'")), 'is not HOST:PORT'],
  telnet: [domainXml(tcpXml(LOCAL, "<protocol type='telnet'/>")), 'speaks telnet'],
  TLS: [domainXml(tcpXml(`${LOCAL} tls='yes'`, "<protocol type='raw'/>")), 'speaks tls'],
  'another machine': [domainXml(tcpXml("host='192.0.2.1' service='90'")), '192.0.2.1, which is not an address of this'],
  'a name of a machine': [domainXml(tcpXml("host='toString' service='90'")), 'is at toString'],
  spice: [domainXml(SPICE), 'is of type spicevmc; supported: unix, tcp, pty, pipe', 'libvirt:vm1:com.redhat.spice.0'],
  'a type that no object has': [domainXml(channelXml('constructor', '')), 'is of type constructor'],
};

for (const [what, [xml, says, text]] of Object.entries({ ...MISSING, ...UNUSABLE })) {
  const code = what in MISSING ? 'channel-missing' : 'channel-unusable';
  test(`${what} is ${code}`, (t) => fails(t, dialDomain(t, xml, text), code, says));
}

/** Dials a channel with a fake virsh; the link is destroyed with the test. */
function dialWith(
  t: ExecutionContext,
  virsh: FakeVirsh | string,
  text: string,
  { clock, ...context }: Partial<DialContext> & { readonly clock?: Clock } = {},
): Promise<Link> {
  const kind = libvirtKind({ virsh: typeof virsh === 'string' ? virsh : virsh.path, ...(clock && { clock }) });
  const { address } = parseChannel(text);
  return dialKind(t, kind, address as Parameters<typeof kind.dial>[0], { ...patiently(), ...context });
}
