/** The commands of docs/libvirt.md that plug a port into a QEMU that runs, and take it away. */
import { join } from 'node:path';
import { readDocument } from '../documents/document-list.js';
import { parseDocument } from '../documents/parse-document.js';
import { temporaryFolder } from '../helpers/files.js';
import { startBareQemu } from '../helpers/machines.js';
import { serialTestWith } from '../helpers/test-with.js';
import { eventually } from '../helpers/time.js';
import { spawnVproxy } from '../helpers/vproxy-process.js';

interface QmpCommand {
  readonly execute: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
}

/** Each block, with `/run/` replaced by `folder`; the monitor has left its first mode already. */
function commandBlocks(folder: string): QmpCommand[][] {
  const document = 'docs/libvirt.md';
  return parseDocument(document, readDocument(document))
    .blocks.filter(({ language }) => language === 'json')
    .map(({ text }) =>
      text
        .replaceAll('/run/', `${folder}/`)
        .trim()
        .split('\n')
        .map((line) => JSON.parse(line) as QmpCommand)
        .filter(({ execute }) => execute !== 'qmp_capabilities'),
    );
}

serialTestWith('qemu')('a port comes to a QEMU that runs, has a vproxy, and goes', async (t) => {
  const folder = temporaryFolder(t);
  const [plug = [], unplug = []] = commandBlocks(folder);
  const qemu = await startBareQemu(t, '-device virtio-serial-pci,id=serial0');
  for (const command of plug) await qemu.execute(command.execute, command.arguments);
  const vproxy = spawnVproxy(t, ['-c', `unix-connect:${join(folder, 'vm1-1.sock')}`]);
  await eventually(async () => (await qemu.chardev('vproxy1')).startsWith('unix:'));
  const nr = await qemu.execute('qom-get', { path: '/machine/peripheral/vproxy1-port', property: 'nr' });
  t.is(nr, 1);

  const [deleteDevice, removeChardev, ...rest] = unplug;
  t.is(rest.length, 0);
  await qemu.execute(deleteDevice?.execute ?? '', deleteDevice?.arguments);
  await eventually(() => qemu.events().includes('DEVICE_DELETED'));
  await qemu.execute(removeChardev?.execute ?? '', removeChardev?.arguments);
  t.is(await qemu.chardev('vproxy1'), '');
  await vproxy.stop();
});
