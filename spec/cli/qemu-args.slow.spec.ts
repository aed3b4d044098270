/** What `vproxy qemu-args` prints, and the commands of docs/libvirt.md for a QEMU that runs, with a real QEMU. */
import { readdirSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { readDocument } from '../documents/document-list.js';
import { parseDocument } from '../documents/parse-document.js';
import { callVproxy } from '../helpers/call-vproxy.js';
import { temporaryFolder } from '../helpers/files.js';
import { startBareQemu } from '../helpers/machines.js';
import { freePort } from '../helpers/ports.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

const testWithQemu = serialTestWith('qemu');

const openFiles = (pid: number): string[] =>
  readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      return [];
    }
  });

testWithQemu('QEMU takes ports of each kind side by side, and vproxy reaches it there', async (t) => {
  const folder = temporaryFolder(t);
  const [listening, connecting] = [await freePort(), await freePort()];
  const pipe = `${folder}/vm1.pipe`;
  t.is((await callVproxy(['pipe-create', pipe])).code, 0);
  /** The name of a port, its arguments as typed to a shell, and the channel of the host's vproxy in docs/libvirt.md. */
  const ports = [
    ['org.vproxy.0', `--path ${folder}/a.sock`, `unix-connect:${folder}/a.sock`],
    ['comma', `--path ${folder}/a,b.sock`, `unix-connect:${folder}/a,,b.sock`],
    ['dialed', `--path ${folder}/c.sock --mode connect`, `unix-listen:${folder}/c.sock`],
    ['tcp', `--tcp ${listening}`, `tcp-connect:127.0.0.1:${listening}`],
    ['tcp-dialed', `--tcp ${connecting} --mode connect`, `tcp-listen:127.0.0.1:${connecting}`],
    ['1.example', `--pipe ${pipe}`, `pipe-open:${pipe}`],
  ] as const;
  const spaced = ['--name', 'space', '--json', '--path', `${folder}/vm 1.sock`];
  const words = JSON.parse((await callVproxy(['qemu-args', ...spaced])).stdout) as string[];
  const calls = ports.map(([name, args]) => `$(vproxy qemu-args --name ${name} ${args})`);
  const qemu = await startBareQemu(t, [...calls, ...words.map((word) => `'${word}'`)].join(' '));
  const names = [...ports.map(([name]) => name), 'space'];
  const kinds = async () =>
    (await Promise.all(names.map((name) => qemu.chardev(`vproxy-${name}`)))).map((kind) => kind.replace(/:.*/, ''));
  const away = 'disconnected';
  t.deepEqual(await kinds(), [away, away, away, away, away, 'pipe', away]);
  const channels = [...ports.map(([, , channel]) => channel), `unix-connect:${folder}/vm 1.sock`];
  const vproxy = spawnVproxy(
    t,
    channels.flatMap((channel, index) => ['-c', `c${index}=${channel}`]),
  );
  await eventually(async () => !(await kinds()).includes(away), { what: 'all connections' });
  t.deepEqual(await kinds(), ['unix', 'unix', 'unix', 'tcp', 'tcp', 'pipe', 'unix']);
  for (const pid of [qemu.pid, vproxy.pid]) {
    await eventually(() => [`${pipe}.in`, `${pipe}.out`].every((file) => openFiles(pid).includes(file)));
  }

  // Each port is number 1 of its controller, and has its name.
  const list = (path: string) => qemu.execute('qom-list', { path }) as Promise<{ name: string; type: string }[]>;
  const place = '/machine/peripheral-anon';
  const devices = (await list(place)).filter(({ type }) => type === 'child<virtserialport>');
  const property = (device: string, name: string) =>
    qemu.execute('qom-get', { path: `${place}/${device}`, property: name });
  const found = await Promise.all(
    devices.map(async ({ name }) => [await property(name, 'name'), await property(name, 'nr')]),
  );
  t.deepEqual(new Map(found as [string, number][]), new Map(names.map((name) => [name, 1])));
});

interface QmpCommand {
  readonly execute: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
}

/** Each block, with `/run/` replaced by `folder`; the monitor has left its first mode already. */
function commandBlocks(folder: string): QmpCommand[][] {
  const document = 'docs/libvirt.md';
  const blocks = parseDocument(document, readDocument(document)).blocks.filter(({ language }) => language === 'json');
  return blocks.map(({ text }) => {
    const lines = text.replaceAll('/run/', `${folder}/`).trim().split('\n');
    return lines.map((line) => JSON.parse(line) as QmpCommand).filter(({ execute }) => execute !== 'qmp_capabilities');
  });
}

testWithQemu('a port comes to a QEMU that runs, has a vproxy, and goes', async (t) => {
  const folder = temporaryFolder(t);
  const [plug = [], unplug = []] = commandBlocks(folder);
  const qemu = await startBareQemu(t, '-device virtio-serial-pci,id=serial0');
  for (const command of plug) await qemu.execute(command.execute, command.arguments);
  spawnVproxy(t, ['-c', `unix-connect:${join(folder, 'vm1-1.sock')}`]);
  await eventually(async () => (await qemu.chardev('vproxy1')).startsWith('unix:'));
  const nr = await qemu.execute('qom-get', { path: '/machine/peripheral/vproxy1-port', property: 'nr' });
  t.is(nr, 1);

  const [deleteDevice, removeChardev, ...rest] = unplug;
  t.is(rest.length, 0);
  await qemu.execute(deleteDevice?.execute ?? '', deleteDevice?.arguments);
  await eventually(() => qemu.events().includes('DEVICE_DELETED'));
  await qemu.execute(removeChardev?.execute ?? '', removeChardev?.arguments);
  t.is(await qemu.chardev('vproxy1'), '');
});
