/** `vproxy libvirt-xml` and `qemu-args`, and the commands of docs/libvirt.md for a running QEMU, with a real QEMU and libvirtd. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { ExecutionContext } from 'ava';
import { parseDocument } from '../documents/parse-document.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { PROJECT_ROOT, projectText, temporaryFolder } from '../helpers/files.js';
import { formatDomain, type Libvirtd, startLibvirtd } from '../helpers/libvirt.js';
import { openFiles } from '../helpers/measures.js';
import { freePort } from '../helpers/ports.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';
import { Qmp } from '../vm/rig/qmp.js';

const withQemu = serialTestWith('qemu');

const printed = async (t: ExecutionContext, ...words: readonly string[]): Promise<string> => {
  const { code, stdout, stderr } = await callVproxy(words);
  t.is(code, 0, stderr);
  return stdout;
};

/** A vproxy with these channels. */
const channelWords = (channels: readonly string[]): string[] =>
  channels.flatMap((channel, index) => ['-c', `c${index}=${channel}`]);

withQemu('QEMU accepts ports of each kind side by side, and vproxy reaches it on them', async (t) => {
  const folder = temporaryFolder(t);
  const [listening, connecting] = [await freePort(), await freePort()];
  const pipe = `${folder}/vm1.pipe`;
  await printed(t, 'pipe-create', pipe);
  /** The name of a port, its arguments as typed to a shell, and the channel of the host's vproxy in docs/libvirt.md. */
  const ports = [
    ['org.vproxy.0', `--path ${folder}/a.sock`, `unix-connect:${folder}/a.sock`],
    ['comma', `--path ${folder}/a,b.sock`, `unix-connect:${folder}/a,,b.sock`],
    ['dialed', `--path ${folder}/c.sock --mode connect`, `unix-listen:${folder}/c.sock`],
    ['tcp', `--tcp ${listening}`, `tcp-connect:127.0.0.1:${listening}`],
    ['tcp-dialed', `--tcp ${connecting} --mode connect`, `tcp-listen:127.0.0.1:${connecting}`],
    ['1.example', `--pipe ${pipe}`, `pipe-open:${pipe}`],
  ] as const;
  const calls = ports.map(([name, args]) => `$(vproxy qemu-args --name ${name} ${args})`);
  const spaced = await printed(t, 'qemu-args', '--name', 'space', '--json', '--path', `${folder}/vm 1.sock`);
  const words = (JSON.parse(spaced) as string[]).map((word) => `'${word}'`);
  const qemu = await startBareQemu(t, [...calls, ...words].join(' '));
  const names = [...ports.map(([name]) => name), 'space'];
  const kinds = async () =>
    (await Promise.all(names.map((name) => qemu.chardev(`vproxy-${name}`)))).map((kind) => kind.replace(/:.*/, ''));
  const away = 'disconnected';
  t.deepEqual(await kinds(), [away, away, away, away, away, 'pipe', away]);
  const channels = [...ports.map(([, , channel]) => channel), `unix-connect:${folder}/vm 1.sock`];
  const vproxy = spawnVproxy(t, channelWords(channels));
  await eventually(async () => !(await kinds()).includes(away), { what: 'all connections' });
  t.deepEqual(await kinds(), ['unix', 'unix', 'unix', 'tcp', 'tcp', 'pipe', 'unix']);
  for (const pid of [qemu.pid, vproxy.pid]) {
    await eventually(() => [`${pipe}.in`, `${pipe}.out`].every((file) => openFiles(pid).includes(file)));
  }
  // Each port is number 1 of its controller, and has its name.
  const path = '/machine/peripheral-anon';
  const all = (await qemu.execute('qom-list', { path })) as { name: string; type: string }[];
  const devices = all.filter(({ type }) => type === 'child<virtserialport>').map(({ name }) => `${path}/${name}`);
  const property = (device: string, name: string) => qemu.execute('qom-get', { path: device, property: name });
  const found = devices.map(async (device) => [await property(device, 'name'), await property(device, 'nr')]);
  t.deepEqual(new Map((await Promise.all(found)) as [string, number][]), new Map(names.map((name) => [name, 1])));
});

withQemu('a port is added to a running QEMU as in docs/libvirt.md, used by a vproxy, and removed', async (t) => {
  const folder = temporaryFolder(t);
  const document = 'docs/libvirt.md';
  const blocks = parseDocument(document, projectText(document)).blocks.filter(({ language }) => language === 'json');
  const [plug = [], unplug = []] = blocks.map(({ text }) => {
    const lines = text.replaceAll('/run/', `${folder}/`).trim().split('\n');
    return lines.map((line) => JSON.parse(line) as { execute: string; arguments?: Record<string, unknown> });
  });
  const qemu = await startBareQemu(t, '-device virtio-serial-pci,id=serial0');
  // The monitor has left its first mode already.
  for (const command of plug.slice(1)) await qemu.execute(command.execute, command.arguments);
  spawnVproxy(t, ['-c', `unix-connect:${join(folder, 'vm1-1.sock')}`]);
  await eventually(async () => (await qemu.chardev('vproxy1')).startsWith('unix:'));
  t.is(await qemu.execute('qom-get', { path: '/machine/peripheral/vproxy1-port', property: 'nr' }), 1);
  t.is(unplug.length, 2);
  for (const command of unplug) {
    await qemu.execute(command.execute, command.arguments);
    await eventually(() => qemu.events().includes('DEVICE_DELETED'));
  }
  t.is(await qemu.chardev('vproxy1'), '');
});

/** A name of maximum length, whose socket libvirt picks. */
const LONG = 'x'.repeat(36);

/** The arguments of each port, and the channel at its other end; libvirt reports the path of a socket that it picks. */
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

/** The chardevs of ports; libvirt numbers its own, those of `--commandline` have their own ids. */
async function chardevs(libvirtd: Libvirtd): Promise<string[]> {
  const answer = await libvirtd.virsh('qemu-monitor-command', 'vm1', '{"execute":"query-chardev"}');
  const { return: all } = JSON.parse(answer) as { return: { label: string; filename: string }[] };
  const isOfPort = ({ label }: { label: string }) => /^charchannel|^vproxy-/.test(label);
  return all.filter(isOfPort).map(({ filename }) => filename.replace(/:.*/, ''));
}

serialTestWith('root', 'libvirt')('a domain has a port of each kind, waiting for a vproxy that uses it', async (t) => {
  t.timeout(120_000);
  const folder = temporaryFolder(t);
  const ports = portsIn(folder);
  for (const name of ['a', 'b']) await printed(t, 'pipe-create', `${folder}/${name}.pipe`);
  const parts = { devices: '', end: '' };
  for (const [index, [args]] of ports.entries()) {
    const named = index === 0 || args.includes('--name') ? args : ['--name', `port${index}`, ...args];
    parts[args.includes('--commandline') ? 'end' : 'devices'] += await printed(t, 'libvirt-xml', ...named);
  }
  // A domain has one such element.
  parts.end = parts.end.replaceAll(/<\/qemu:commandline>\n<qemu:commandline[^>]*>\n/g, '');
  const libvirtd = await startLibvirtd(t);
  await libvirtd.define(formatDomain(parts));
  await libvirtd.virsh('start', 'vm1');
  const countOf = (kinds: readonly string[], kind: string) => kinds.filter((one) => one === kind).length;
  const before = await chardevs(libvirtd);
  t.deepEqual([countOf(before, 'pipe'), countOf(before, 'disconnected')], [2, ports.length - 2]);

  const xml = await libvirtd.virsh('dumpxml', 'vm1');
  const picked = ['org.vproxy.0', LONG].map((name) => {
    const pattern = new RegExp(`<source mode='bind' path='([^']+)'/>\\s*<target type='virtio' name='${name}'`);
    const path = pattern.exec(xml)?.[1] ?? '';
    t.true(existsSync(libvirtd.outsidePath(path)), xml);
    return `unix-connect:${path}`;
  });
  const channels = [...picked, ...ports.flatMap(([, channel]) => channel ?? [])];
  spawnVproxy(t, channelWords(channels), { launcher: libvirtd.launcher });
  await eventually(async () => !(await chardevs(libvirtd)).includes('disconnected'), { what: 'all connections' });
  const kinds = await chardevs(libvirtd);
  t.deepEqual([countOf(kinds, 'unix'), countOf(kinds, 'tcp'), countOf(kinds, 'pipe')], [6, 4, 2]);
});

const PROFILE_WRITER = '/usr/lib/libvirt/virt-aa-helper';

serialTestWith('virt-aa-helper')('the AppArmor profile has the paths of a channel, not of --commandline', async (t) => {
  const uuid = '2b627663-1a74-41e0-b162-28444fde71a7';
  for (const [args, ...lines] of [
    ['--path /run/vms/a', '"/run/vms/a" rw,'],
    ['--path /run/vms/a --mode connect', '"/run/vms/a" rw,'],
    ['--pipe /run/vms/a', '"/run/vms/a.in" rw,', '"/run/vms/a.out" rw,'],
    ['--path /run/vms/a --commandline --qemu-version 7.2'],
  ] as const) {
    const text = await printed(t, 'libvirt-xml', ...args.split(' '));
    const domain = formatDomain(args.includes('--commandline') ? { end: text } : { devices: text });
    const input = domain.replace('</name>', `</name><uuid>${uuid}</uuid>`);
    const words = ['--dryrun', '--create', '--uuid', `libvirt-${uuid}`];
    const { stderr } = spawnSync(PROFILE_WRITER, words, { input, encoding: 'utf8' });
    const found = [...stderr.matchAll(/^ *("\/run\/vms\/.*)$/gm)].map(([, line = '']) => line);
    t.deepEqual(found, [...lines]);
  }
});

/**
 * Starts QEMU with arguments as typed in a shell where `vproxy` is this project's; it ends with the test. Rejects with
 * QEMU's message if it does not accept them.
 */
async function startBareQemu(t: ExecutionContext, shellWords: string) {
  const path = join(temporaryFolder(t), 'qmp.sock');
  const qmp = await Qmp.listen(path);
  const monitor = `-chardev socket,id=qmp,path=${path} -mon chardev=qmp,mode=control`;
  const usual = `-S -nodefaults -display none -accel tcg -m 16 ${monitor}`;
  const vproxy = `vproxy() { '${process.execPath}' '${join(PROJECT_ROOT, 'dist/program/vproxy.cjs')}' "$@"; }`;
  const script = `set -e; ${vproxy}; set -- ${shellWords}; exec setpriv --pdeathsig KILL qemu-system-x86_64 ${usual} "$@"`;
  const child = spawn('sh', ['-c', script], { stdio: ['ignore', 'ignore', 'pipe'] });
  const errors = text(child.stderr);
  const ended = once(child, 'close');
  t.teardown(async () => {
    qmp.close();
    child.kill('SIGKILL');
    await ended;
  });
  const died = errors.then((said) => Promise.reject(new Error(`QEMU ended: ${said}`)));
  const up = qmp.start();
  for (const promise of [up, died]) promise.catch(() => undefined);
  await Promise.race([up, died]);
  return {
    pid: child.pid ?? 0,
    /** Its own words for what a chardev is joined to; `disconnected:` before where the other end of a socket is not connected. */
    async chardev(id: string): Promise<string> {
      const chardevs = (await qmp.execute('query-chardev')) as { label: string; filename: string }[];
      return chardevs.find(({ label }) => label === id)?.filename ?? '';
    },
    /** The names of its events so far. */
    events: () => qmp.events.map(({ event }) => event),
    /** What a command of its monitor returns. */
    execute: (command: string, args?: Readonly<Record<string, unknown>>) => qmp.execute(command, args),
  };
}
