/** What `vproxy libvirt-xml` prints, in domains of a real libvirtd that starts them. */
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { temporaryFolder } from '../helpers/files.js';
import { formatDomain, type Libvirtd, startLibvirtd } from '../helpers/libvirt.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { runVproxy, spawnVproxy } from '../helpers/vproxy-process.js';

const testWithLibvirtd = serialTestWith('root', 'libvirt');

/** A domain that was started, and the id of its chardev for the port. */
interface StartedDomain {
  readonly libvirtd: Libvirtd;
  /** As in `BareQemu`. */
  readonly chardev: () => Promise<string>;
}

/** Starts a domain with what `libvirt-xml` prints, which libvirt's schema has to take, too. */
async function startDomain(t: ExecutionContext, ...args: readonly string[]): Promise<StartedDomain> {
  const { code, stdout, stderr } = await runVproxy(['libvirt-xml', ...args]);
  t.is(code, 0, stderr);
  const file = join(temporaryFolder(t), 'domain.xml');
  const isCommandline = args.includes('--commandline');
  writeFileSync(file, formatDomain(isCommandline ? { end: stdout } : { devices: stdout }));
  const libvirtd = await startLibvirtd(t);
  await libvirtd.virsh('define', '--validate', file);
  await libvirtd.virsh('start', 'vm1');
  return { libvirtd, chardev: () => portChardev(libvirtd) };
}

/** libvirt numbers its chardevs; those of `--commandline` have their own ids. */
async function portChardev(libvirtd: Libvirtd): Promise<string> {
  const answer = await libvirtd.virsh('qemu-monitor-command', 'vm1', '{"execute":"query-chardev"}');
  const { return: chardevs } = JSON.parse(answer) as { return: { label: string; filename: string }[] };
  return chardevs.find(({ label }) => /^charchannel0$|^vproxy-/.test(label))?.filename ?? '';
}

testWithLibvirtd('libvirt picks the socket, says its path, and vproxy connects to it', async (t) => {
  const { libvirtd, chardev } = await startDomain(t);
  const xml = await libvirtd.virsh('dumpxml', 'vm1');
  const path = /<source mode='bind' path='([^']+)'\/>\s*<target type='virtio' name='org.vproxy.0'/.exec(xml)?.[1] ?? '';
  t.true(existsSync(libvirtd.outsidePath(path)), xml);
  t.regex(await chardev(), /^disconnected:/);
  spawnVproxy(t, ['-c', `unix-connect:${path}`], { launcher: libvirtd.launcher });
  await eventually(async () => (await chardev()).startsWith('unix:'));
});

testWithLibvirtd('a name as long as may be has a socket that libvirt picks', async (t) => {
  const { chardev } = await startDomain(t, '--name', 'x'.repeat(36));
  t.regex(await chardev(), /^disconnected:/);
});

/** For every kind of channel: the domain starts while no vproxy runs, and then the two find each other. */
for (const commandline of [[], ['--commandline']]) {
  for (const [kind, args, channel] of [
    ['a socket on which QEMU listens', ['--path', "/run/a&'<.sock"], "unix-connect:/run/a&'<.sock"],
    ['a socket to which QEMU connects', ['--path', '/run/vm1.sock', '--mode', 'connect'], 'unix-listen:/run/vm1.sock'],
    ['a TCP port on which QEMU listens', ['--tcp', '50000'], 'tcp-connect:127.0.0.1:50000'],
    ['a TCP port to which QEMU connects', ['--tcp', '[::1]:50000', '--mode', 'connect'], 'tcp-listen:[::1]:50000'],
  ] as const) {
    testWithLibvirtd(`a domain with ${[kind, ...commandline].join(', by ')}`, async (t) => {
      const { libvirtd, chardev } = await startDomain(t, ...args, ...commandline);
      t.regex(await chardev(), /^disconnected:/);
      spawnVproxy(t, ['-c', channel], { launcher: libvirtd.launcher });
      await eventually(async () => /^(?:unix|tcp):/.test(await chardev()));
    });
  }

  testWithLibvirtd(`a domain with ${['a pipe', ...commandline].join(', by ')}`, async (t) => {
    const path = join(temporaryFolder(t), 'vm1.pipe');
    t.is((await runVproxy(['pipe-create', path])).code, 0);
    const { chardev } = await startDomain(t, '--pipe', path, ...commandline);
    t.is(await chardev(), 'pipe');
  });
}

testWithLibvirtd('a port comes to a domain that runs, and goes', async (t) => {
  const { libvirtd } = await startDomain(t);
  const file = join(temporaryFolder(t), 'channel.xml');
  writeFileSync(file, (await runVproxy(['libvirt-xml', '--name', 'org.example.1'])).stdout);
  await libvirtd.virsh('attach-device', 'vm1', file, '--live');
  t.regex(await libvirtd.virsh('dumpxml', 'vm1'), /path='[^']+\/org\.example\.1'/);
  // By the alias: otherwise libvirt compares the source, too, which it has filled in since.
  await libvirtd.virsh('detach-device-alias', 'vm1', 'channel1', '--live');
  await eventually(async () => !(await libvirtd.virsh('dumpxml', 'vm1')).includes('org.example.1'));
});

const PROFILE_WRITER = '/usr/lib/libvirt/virt-aa-helper';

/** What libvirt lets QEMU open under AppArmor, of a domain with what `libvirt-xml` prints: the lines for paths in /run/vms. */
async function profileLines(...args: readonly string[]): Promise<string[]> {
  const { stdout } = await runVproxy(['libvirt-xml', ...args]);
  const uuid = '2b627663-1a74-41e0-b162-28444fde71a7';
  const parts = args.includes('--commandline') ? { end: stdout } : { devices: stdout };
  const input = formatDomain(parts).replace('</name>', `</name><uuid>${uuid}</uuid>`);
  const words = ['--dryrun', '--create', '--uuid', `libvirt-${uuid}`];
  const { stderr } = spawnSync(PROFILE_WRITER, words, { input, encoding: 'utf8' });
  return [...stderr.matchAll(/^ *("\/run\/vms\/.*)$/gm)].map(([, line = '']) => line);
}

serialTestWith('virt-aa-helper')(
  "libvirt's AppArmor profile has the paths of a channel, and none of --commandline",
  async (t) => {
    t.deepEqual(await profileLines('--path', '/run/vms/a'), ['"/run/vms/a" rw,']);
    t.deepEqual(await profileLines('--path', '/run/vms/a', '--mode', 'connect'), ['"/run/vms/a" rw,']);
    t.deepEqual(await profileLines('--pipe', '/run/vms/a'), ['"/run/vms/a.in" rw,', '"/run/vms/a.out" rw,']);
    t.deepEqual(await profileLines('--path', '/run/vms/a', '--commandline', '--qemu-version', '7.2'), []);
  },
);
