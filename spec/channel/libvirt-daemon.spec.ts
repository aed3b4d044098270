/** Channels to domains of a real libvirtd, by each kind of port that it can give them. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { channelXml, formatDomain, Libvirtd } from '../helpers/libvirt.js';
import { hasNeed } from '../helpers/needs.js';
import { testWith } from '../helpers/test-with.js';
import { spawnVproxy, type VproxyProcess } from '../helpers/vproxy-process.js';

const withLibvirtd = testWith('root', 'libvirt');

let libvirtd: Libvirtd;

test.before('a libvirtd is started', async () => {
  if (hasNeed('root') && hasNeed('libvirt')) libvirtd = await Libvirtd.start();
});

test.after.always('and stopped', async () => {
  if (hasNeed('root') && hasNeed('libvirt')) await libvirtd.stop();
});

/** Defines a domain with a port, and starts it. */
async function startDomain(t: ExecutionContext, name: string, ...devices: readonly string[]): Promise<void> {
  const file = join(libvirtd.folder, 'run', `${name}.xml`);
  writeFileSync(file, formatDomain({ name, devices: devices.join('\n') }));
  await libvirtd.virsh('define', '--validate', file);
  await libvirtd.virsh('start', '--domain', name);
  t.teardown(() => libvirtd.virsh('destroy', '--domain', name).catch(() => undefined));
}

/** A vproxy beside that libvirtd. */
function spawnBeside(t: ExecutionContext, channel: string, ...launcher: readonly string[]): VproxyProcess {
  const args = ['-c', channel, '--name', 'host', '-i', 'x:127.0.0.1:1'];
  return spawnVproxy(t, args, { launcher: [...libvirtd.launcher, ...launcher] });
}

for (const [name, type, source, opened] of [
  ['picked', 'unix', '', /no answer on unix-connect:\/\S*\/org\.vproxy\.0:/],
  [
    'given',
    'unix',
    "<source mode='bind' path='/run/a &amp; b.sock'/>",
    /no answer on unix-connect:\/run\/a & b\.sock:/,
  ],
  [
    'tcp',
    'tcp',
    "<source mode='bind' host='127.0.0.1' service='50000'/>",
    /no answer on tcp-connect:127\.0\.0\.1:50000:/,
  ],
  [
    'any',
    'tcp',
    "<source mode='bind' host='0.0.0.0' service='50001'/>",
    /no answer on tcp-connect:127\.0\.0\.1:50001:/,
  ],
  ['pty', 'pty', '', /no answer on tty-open:\/dev\/pts\/\d+:/],
  ['pipe', 'pipe', "<source path='/run/vm.pipe'/>", /no answer on pipe-open:\/run\/vm\.pipe:/],
] as const) {
  withLibvirtd(`a port of type ${type} (${name}) of a domain is opened`, async (t) => {
    for (const end of ['', '.in', '.out']) {
      if (type === 'pipe') execFileSync('mkfifo', [libvirtd.outsidePath(`/run/vm.pipe${end}`)]);
    }
    await startDomain(t, name, channelXml(type, source));
    await spawnBeside(t, `libvirt:${name}`).waitForLine(opened);
    t.pass();
  });
}

withLibvirtd('a domain is known by its uuid and its id, and its ports by their names', async (t) => {
  await startDomain(t, 'named', channelXml('unix', '', 'org.example.0'), channelXml('unix', '', 'org.example.1'));
  for (const command of ['domuuid', 'domid']) {
    const id = await libvirtd.virsh(command, 'named');
    await spawnBeside(t, `libvirt:${id}:org.example.1`).waitForLine(
      /no answer on unix-connect:\/\S*\/org\.example\.1:/,
    );
  }
  await spawnBeside(t, 'libvirt:named').waitForLine(
    /begins with org\.vproxy\.; there are: org\.example\.0, org\.example\.1/,
  );
  t.pass();
});

withLibvirtd('a domain that goes and comes again is found at its new place', async (t) => {
  await startDomain(t, 'restarted', channelXml('unix', ''));
  const vproxy = spawnBeside(t, 'libvirt:restarted');
  const [, first = ''] = await vproxy.waitForLine(/no answer on unix-connect:(\S+):/);
  await libvirtd.virsh('destroy', 'restarted');
  await vproxy.waitForLine(/the domain is not running; trying again/);
  const from = vproxy.lines.length;
  await libvirtd.virsh('start', 'restarted');
  const [, second = ''] = await vproxy.waitForLine(/no answer on unix-connect:(\S+):/, { from });
  t.not(first, second);
});

withLibvirtd('QEMU that connects is told apart, and a domain that nobody knows', async (t) => {
  const source = "<source mode='connect' path='/run/c.sock'><reconnect enabled='yes' timeout='1'/></source>";
  await startDomain(t, 'connects', channelXml('unix', source));
  await spawnBeside(t, 'libvirt:connects').waitForLine(/-c unix-listen:\/run\/c\.sock is what it needs/);
  await spawnBeside(t, 'libvirt:nobody').waitForLine(/failed to get domain 'nobody'/);
  t.pass();
});

withLibvirtd('who may ask but not open the socket is told so, a second later', async (t) => {
  const folder = libvirtd.outsidePath('/run/closed');
  mkdirSync(folder, { mode: 0o700 });
  await startDomain(t, 'closed', channelXml('unix', "<source mode='bind' path='/run/closed/vm.sock'/>"));
  const nobody = ['setpriv', '--bounding-set', '-dac_override,-dac_read_search', '--reuid', '65534', '--clear-groups'];
  const vproxy = spawnBeside(t, 'libvirt:closed,uri=qemu:///system', ...nobody);
  await vproxy.waitForLine(/unix-connect:\/run\/closed\/vm\.sock: permission denied \(EACCES\)/);
  t.is((await vproxy.exited).code, 77);
});
