import { execFileSync } from 'node:child_process';
import fs from 'node:fs/promises';
import path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { parseChannel } from '../../lib/channel/address/address.js';
import { VproxyError } from '../../lib/errors.js';
import type { Link } from '../../lib/link/link.js';
import { deferred } from '../../lib/util/concurrency.js';
import { testEnds, testLinks } from '../helpers/channel-conformance.js';
import { LinkRecorder, listen, makeFolder } from '../helpers/channel-pair.js';
import { channelXml, dialWith, domainXml, fakeVirsh } from '../helpers/libvirt.js';
import { openPty } from '../helpers/terminals.js';
import { testWith } from '../helpers/test-with.js';

const means = test.macro({
  title: (_, text: string) => `${text} is understood`,
  exec(t, text: string, domain: string, port: string | null, uri: string | null = null, canonical: string = text) {
    const parsed = parseChannel(text);
    t.deepEqual(parsed.address, { domain, port, uri });
    t.is(parsed.text, canonical);
    t.deepEqual(parseChannel(parsed.text), parsed);
  },
});

test(means, 'libvirt:vm1', 'vm1', null);
test(means, 'libvirt:vm1:org.example.0', 'vm1', 'org.example.0');
test(means, 'libvirt:my vm:a b', 'my vm', 'a b');
test(means, 'libvirt:-x:-y', '-x', '-y');
test(means, 'libvirt:db::1', 'db:1', null);
test(means, 'libvirt:db::1:org::vproxy', 'db:1', 'org:vproxy');
test(means, 'libvirt:a:::b', 'a:', 'b');
test(means, 'libvirt:a,,b:c,,d', 'a,b', 'c,d');
test(means, 'libvirt:vm1,uri=qemu:///system', 'vm1', null, 'qemu:///system');
test(
  means,
  'libvirt:vm1,frame=4096,uri=qemu:///a,,b',
  'vm1',
  null,
  'qemu:///a,b',
  'libvirt:vm1,uri=qemu:///a,,b,frame=4096',
);
test(means, 'libvirt:vm1,uri=qemu+unix:///system?socket=/s', 'vm1', null, 'qemu+unix:///system?socket=/s');
test(means, 'libvirt:vm1,uri=qemu+tcp://[::1]:16509/system', 'vm1', null, 'qemu+tcp://[::1]:16509/system');
test(means, 'libvirt:vm1,uri=qemu+tcp://localhost/system', 'vm1', null, 'qemu+tcp://localhost/system');
test(means, 'libvirt:vm1,uri=mine', 'vm1', null, 'mine');

const refuses = test.macro({
  title: (_, text: string) => `${JSON.stringify(text)} is refused`,
  exec(t, text: string, says: string) {
    const error = t.throws(() => parseChannel(text), { instanceOf: VproxyError, code: 'bad-argument' });
    t.true(error.message.includes(says), error.message);
  },
});

test(refuses, 'libvirt:', 'the name of a domain is missing');
test(refuses, 'libvirt:vm1:', 'the name of a port is missing');
test(refuses, 'libvirt:vm1:a:b', 'a colon in a name is written ::');
test(refuses, 'libvirt://vm1', 'has no slashes');
test(refuses, 'libvirt:vm\n1', 'no control characters');
test(refuses, 'libvirt:vm1,uri=', 'a libvirt URI of this machine');
test(refuses, 'libvirt:vm1,uri=qemu+ssh://host2/system', 'a libvirt URI of this machine');
test(refuses, 'libvirt:vm1,uri=qemu+ssh://root@192.0.2.1:22/system', 'a libvirt URI of this machine');
test(refuses, 'libvirt:vm1,uri=a b', 'a libvirt URI of this machine');
test(refuses, 'libvirt:vm1,integrity=off', 'should be frame or full');

/** A link to a port of a domain, and what is at its other end. */
async function openPair(t: ExecutionContext): Promise<{ near: Link; far: Link }> {
  const virsh = fakeVirsh(t);
  const file = path.join(await makeFolder(t), 'channel.sock');
  const accepted = deferred<Link>();
  await listen(t, `unix-listen:${file}`, { onLink: (link) => accepted.resolve(link) });
  virsh.print(domainXml(channelXml('unix', `<source mode='bind' path='${file}'/>`)));
  const near = await dialWith(t, virsh, 'libvirt:vm1');
  const far = await accepted.promise;
  t.teardown(() => far.destroy());
  return { near, far };
}

testLinks('libvirt', openPair);
testEnds('libvirt', openPair);

/** Says hello through a link, and waits for the answer of an echo. */
async function hears(t: ExecutionContext, link: Link): Promise<void> {
  const handler = new LinkRecorder();
  link.start(handler);
  link.write(Buffer.from('hello'));
  await handler.received(5);
  t.is(handler.bytes.toString(), 'hello');
}

/** Answers with what it is sent. */
function echo(t: ExecutionContext, link: Link): void {
  t.teardown(() => link.destroy());
  link.start({
    onBytes(bytes) {
      link.write(Buffer.from(bytes));
      return false;
    },
    onDrain: () => undefined,
    onClosed: () => undefined,
  });
}

for (const host of ['127.0.0.1', 'localhost', '', '0.0.0.0'] as const) {
  test(`a TCP port of QEMU at "${host}" is connected to`, async (t) => {
    const listener = await listen(t, 'tcp-listen:127.0.0.1:0', { onLink: (link) => echo(t, link) });
    const [, port = ''] = /:(\d+)$/.exec(listener.description) ?? [];
    const virsh = fakeVirsh(t);
    virsh.print(domainXml(channelXml('tcp', `<source mode='bind' host='${host}' service='${port}'/>`)));
    await hears(t, await dialWith(t, virsh, 'libvirt:vm1'));
  });
}

test('a terminal of QEMU is opened', async (t) => {
  const pty = await openPty(t);
  const virsh = fakeVirsh(t);
  virsh.print(domainXml(channelXml('pty', `<source path='${pty.path}'/>`)));
  pty.output.pipe(pty.input);
  await hears(t, await dialWith(t, virsh, 'libvirt:vm1'));
});

test('FIFOs of QEMU are opened', async (t) => {
  const file = path.join(await makeFolder(t), 'pipe');
  execFileSync('mkfifo', [`${file}.in`]);
  await fs.symlink(`${file}.in`, `${file}.out`);
  const virsh = fakeVirsh(t);
  virsh.print(domainXml(channelXml('pipe', `<source path='${file}'/>`)));
  await hears(t, await dialWith(t, virsh, 'libvirt:vm1'));
});

const OTHER = "<source mode='bind' path='/nowhere/other.sock'/>";

test('a path has every character that XML can say, and is found behind comments and in any quotes', async (t) => {
  const file = path.join(await makeFolder(t), `a & <b> "c" 'd':-`);
  await listen(t, `unix-listen:${file}:-`.replaceAll(',', ',,'), { onLink: (link) => echo(t, link) });
  const written = file.replace(/[&<"]/g, (character) => `&#${character.charCodeAt(0)};`).replaceAll("'", '&apos;');
  const virsh = fakeVirsh(t);
  virsh.print(
    domainXml(
      `<!-- ${channelXml('unix', OTHER)} --><![CDATA[${channelXml('unix', OTHER)}]]>`,
      channelXml('unix', `<source  mode = "bind"\n path="${written}"></source>`),
    ),
  );
  await hears(t, await dialWith(t, virsh, 'libvirt:vm1'));
});

testWith('virsh')('the real virsh is understood, with the domains of a file', async (t) => {
  const folder = await makeFolder(t);
  const socket = path.join(folder, 'a&b.sock');
  await listen(t, `unix-listen:${socket}`, { onLink: (link) => echo(t, link) });
  const port = channelXml('unix', `<source mode='bind' path='${socket.replace('&', '&amp;')}'/>`);
  const domain = (name: string, more = '') =>
    `<domain type='test' xmlns:test='http://libvirt.org/schemas/domain/test/1.0'><name>${name}</name>
      <memory>8192</memory><os><type>hvm</type></os><devices>${port}</devices>${more}</domain>`;
  await fs.writeFile(
    path.join(folder, 'node.xml'),
    `<node>${domain('-vm 1')}${domain('off', '<test:runstate>5</test:runstate>')}</node>`,
  );
  const uri = `uri=test://${folder}/node.xml`;
  const fails = (text: string, code: string, message: RegExp) =>
    t.throwsAsync(dialWith(t, 'virsh', text), { code, message });
  await hears(t, await dialWith(t, 'virsh', `libvirt:-vm 1,${uri}`));
  await hears(t, await dialWith(t, 'virsh', `libvirt:1:org.vproxy.0,${uri}`));
  await fails(`libvirt:none,${uri}`, 'channel-missing', /virsh: failed to get domain 'none'$/);
  await fails(`libvirt:off,${uri}`, 'channel-missing', /the domain is not running$/);
  const nobody = `uri=qemu+unix:///system?socket=${folder}/none`;
  await fails(`libvirt:vm1,${nobody}`, 'channel-refused', /\(does libvirtd run\?\)$/);
  await fails(`libvirt:vm1,uri=test://${folder}/none.xml`, 'channel-failed', /failed to parse xml document/);
});
