/** Channels to domains of a real libvirtd, for each kind of port that it supports. */
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { channelXml, formatDomain, Libvirtd } from '../helpers/libvirt.js';
import { hasNeed } from '../helpers/needs.js';
import { testWith } from '../helpers/test-with.js';
import { spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';

const withLibvirtd = testWith('root', 'libvirt');

let libvirtd: Libvirtd;

test.before('start a libvirtd', async () => {
  if (hasNeed('root') && hasNeed('libvirt')) libvirtd = await Libvirtd.start();
});

test.after.always('stop it', async () => {
  if (hasNeed('root') && hasNeed('libvirt')) await libvirtd.stop();
});

/** Defines a domain with a port, and starts it. */
async function startDomain(t: ExecutionContext, name: string, ...devices: readonly string[]): Promise<void> {
  await libvirtd.define(formatDomain({ name, devices: devices.join('\n') }));
  await libvirtd.virsh('start', '--domain', name);
  t.teardown(() => libvirtd.virsh('destroy', '--domain', name).catch(() => undefined));
}

/** A vproxy that uses that libvirtd. */
function spawnBeside(t: ExecutionContext, channels: readonly string[], ...launcher: readonly string[]): VproxyProcess {
  const args = channels.flatMap((channel) => ['-c', channel]);
  return spawnVproxy(t, args, { launcher: [...libvirtd.launcher, ...launcher] });
}

/** The kinds of ports, and the channel of each. */
const PORTS: Readonly<Record<string, readonly [type: string, source: string, opened: string]>> = {
  picked: ['unix', '', 'unix-connect:/\\S*/picked'],
  given: ['unix', "<source mode='bind' path='/run/a &amp; b.sock'/>", 'unix-connect:/run/a & b\\.sock'],
  tcp: ['tcp', "<source mode='bind' host='127.0.0.1' service='50000'/>", 'tcp-connect:127\\.0\\.0\\.1:50000'],
  any: ['tcp', "<source mode='bind' host='0.0.0.0' service='50001'/>", 'tcp-connect:127\\.0\\.0\\.1:50001'],
  pty: ['pty', '', 'tty-open:/dev/pts/\\d+'],
  pipe: ['pipe', "<source path='/run/vm.pipe'/>", 'pipe-open:/run/vm\\.pipe'],
};

withLibvirtd('a port of each type is opened, with the domain given by name, uuid and id', async (t) => {
  for (const end of ['in', 'out']) execFileSync('mkfifo', [libvirtd.outsidePath(`/run/vm.pipe.${end}`)]);
  await startDomain(t, 'all', ...Object.entries(PORTS).map(([name, [type, source]]) => channelXml(type, source, name)));
  const domains = ['all', await libvirtd.virsh('domuuid', 'all'), await libvirtd.virsh('domid', 'all')];
  const channels = Object.keys(PORTS).map((name, index) => `${name}=libvirt:${domains[index % 3]}:${name}`);
  const vproxy = spawnBeside(t, [...channels, 'unnamed=libvirt:all']);
  for (const [name, [, , opened]] of Object.entries(PORTS))
    await vproxy.waitForLine(new RegExp(`${name}: no answer on ${opened}:`));
  await vproxy.waitForLine(/begins with org\.vproxy\.; it has: picked, given, tcp, any, pty, pipe/);
  t.pass();
});

withLibvirtd('a restarted domain is found at its new address', async (t) => {
  await startDomain(t, 'restarted', channelXml('unix', ''));
  const vproxy = spawnBeside(t, ['libvirt:restarted']);
  const [, first = ''] = await vproxy.waitForLine(/no answer on unix-connect:(\S+):/);
  await libvirtd.virsh('destroy', 'restarted');
  await vproxy.waitForLine(/the domain is not running; retrying/);
  const from = vproxy.lines.length;
  await libvirtd.virsh('start', 'restarted');
  const [, second = ''] = await vproxy.waitForLine(/no answer on unix-connect:(\S+):/, { from });
  t.not(first, second);
});

withLibvirtd('a QEMU that connects, and an unknown domain, have errors of their own', async (t) => {
  const source = "<source mode='connect' path='/run/c.sock'><reconnect enabled='yes' timeout='1'/></source>";
  await startDomain(t, 'connects', channelXml('unix', source));
  const vproxy = spawnBeside(t, ['a=libvirt:connects', 'b=libvirt:nobody']);
  await vproxy.waitForLine(/use -c unix-listen:\/run\/c\.sock/);
  await vproxy.waitForLine(/failed to get domain 'nobody'/);
  t.pass();
});

withLibvirtd('a user who may query libvirt but not open the socket gets an error, a second later', async (t) => {
  const folder = libvirtd.outsidePath('/run/closed');
  mkdirSync(folder, { mode: 0o700 });
  await startDomain(t, 'closed', channelXml('unix', "<source mode='bind' path='/run/closed/vm.sock'/>"));
  const nobody = ['setpriv', '--bounding-set', '-dac_override,-dac_read_search', '--reuid', '65534', '--clear-groups'];
  const vproxy = spawnBeside(t, ['libvirt:closed,uri=qemu:///system'], ...nobody);
  await vproxy.waitForLine(/unix-connect:\/run\/closed\/vm\.sock: permission denied \(EACCES\)/);
  t.is((await vproxy.exited).code, 77);
});
