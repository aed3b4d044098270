/** What `vproxy libvirt-xml` prints, in a domain of a real libvirtd that starts it. */
import { spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { callVproxy } from '../helpers/call-vproxy.js';
import { temporaryFolder } from '../helpers/files.js';
import { formatDomain, type Libvirtd, startLibvirtd } from '../helpers/libvirt.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

/** A name as long as may be, whose socket libvirt picks. */
const LONG = 'x'.repeat(36);

/** The arguments of each port, and the channel that is at its other end; libvirt says the path of a socket that it picks. */
const portsIn = (folder: string): readonly (readonly [args: readonly string[], channel: string | null])[] => [
  [[], null],
  [['--name', LONG], null],
  [['--path', "/run/a&'<.sock"], "unix-connect:/run/a&'<.sock"],
  [['--path', '/run/b.sock', '--mode', 'connect'], 'unix-listen:/run/b.sock'],
  [['--tcp', '50000'], 'tcp-connect:127.0.0.1:50000'],
  [['--tcp', '[::1]:50001', '--mode', 'connect'], 'tcp-listen:[::1]:50001'],
  [['--pipe', `${folder}/a.pipe`], null],
  [['--commandline', '--path', "/run/c&'<.sock"], "unix-connect:/run/c&'<.sock"],
  [['--commandline', '--path', '/run/d.sock', '--mode', 'connect'], 'unix-listen:/run/d.sock'],
  [['--commandline', '--tcp', '50002'], 'tcp-connect:127.0.0.1:50002'],
  [['--commandline', '--tcp', '[::1]:50003', '--mode', 'connect'], 'tcp-listen:[::1]:50003'],
  [['--commandline', '--pipe', `${folder}/b.pipe`], null],
];

/** What becomes of the chardevs for ports; libvirt numbers its own, those of `--commandline` have their own ids. */
async function chardevs(libvirtd: Libvirtd): Promise<string[]> {
  const answer = await libvirtd.virsh('qemu-monitor-command', 'vm1', '{"execute":"query-chardev"}');
  const { return: all } = JSON.parse(answer) as { return: { label: string; filename: string }[] };
  const isOfPort = ({ label }: { label: string }) => /^charchannel|^vproxy-/.test(label);
  return all.filter(isOfPort).map(({ filename }) => filename.replace(/:.*/, ''));
}

serialTestWith('root', 'libvirt')(
  'a domain has a port of each kind, which waits for a vproxy and gets it; one more port comes while it runs, and goes',
  async (t) => {
    t.timeout(120_000);
    const folder = temporaryFolder(t);
    const ports = portsIn(folder);
    for (const name of ['a', 'b']) t.is((await callVproxy(['pipe-create', `${folder}/${name}.pipe`])).code, 0);
    const printed = async (args: readonly string[]): Promise<string> => {
      const { code, stdout, stderr } = await callVproxy(['libvirt-xml', ...args]);
      t.is(code, 0, stderr);
      return stdout;
    };
    const parts = { devices: '', end: '' };
    for (const [index, [args]] of ports.entries()) {
      const named = index === 0 || args.includes('--name') ? args : ['--name', `port${index}`, ...args];
      parts[args.includes('--commandline') ? 'end' : 'devices'] += await printed(named);
    }
    // A domain has one such element.
    parts.end = parts.end.replaceAll(/<\/qemu:commandline>\n<qemu:commandline[^>]*>\n/g, '');
    const libvirtd = await startLibvirtd(t);
    await libvirtd.define(formatDomain(parts));
    await libvirtd.virsh('start', 'vm1');
    const before = await chardevs(libvirtd);
    t.deepEqual([before.length, before.filter((kind) => kind === 'pipe').length], [ports.length, 2]);
    t.is(before.filter((kind) => kind === 'disconnected').length, ports.length - 2);

    const xml = await libvirtd.virsh('dumpxml', 'vm1');
    const picked = ['org.vproxy.0', LONG].map((name) => {
      const pattern = new RegExp(`<source mode='bind' path='([^']+)'/>\\s*<target type='virtio' name='${name}'`);
      const path = pattern.exec(xml)?.[1] ?? '';
      t.true(existsSync(libvirtd.outsidePath(path)), xml);
      return `unix-connect:${path}`;
    });
    const channels = [...picked, ...ports.flatMap(([, channel]) => channel ?? [])];
    const words = channels.flatMap((channel, index) => ['-c', `c${index}=${channel}`]);
    spawnVproxy(t, words, { launcher: libvirtd.launcher });
    await eventually(async () => !(await chardevs(libvirtd)).includes('disconnected'), { what: 'all connections' });
    const kinds = await chardevs(libvirtd);
    t.deepEqual(
      ['unix', 'tcp', 'pipe'].map((kind) => kinds.filter((one) => one === kind).length),
      [6, 4, 2],
    );

    const file = join(folder, 'port.xml');
    writeFileSync(file, await printed(['--name', 'org.example.1']));
    await libvirtd.virsh('attach-device', 'vm1', file, '--live');
    const attached = await libvirtd.virsh('dumpxml', 'vm1');
    t.regex(attached, /path='[^']+\/org\.example\.1'/);
    // By the alias: otherwise libvirt compares the source, too, which it has filled in since.
    const alias = /name='org\.example\.1'[^]*?<alias name='([^']+)'/.exec(attached)?.[1] ?? '';
    await libvirtd.virsh('detach-device-alias', 'vm1', alias, '--live');
    await eventually(async () => !(await libvirtd.virsh('dumpxml', 'vm1')).includes('org.example.1'));
  },
);

const PROFILE_WRITER = '/usr/lib/libvirt/virt-aa-helper';

/** What libvirt lets QEMU open under AppArmor, of a domain with what `libvirt-xml` prints: the lines for paths in /run/vms. */
async function profileLines(...args: readonly string[]): Promise<string[]> {
  const { stdout } = await callVproxy(['libvirt-xml', ...args]);
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
