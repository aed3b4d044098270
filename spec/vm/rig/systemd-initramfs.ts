/**
 * The archive of a Debian guest with systemd: the Debian as installed, followed by the files of the rig. Nothing of the rig is
 * named after vproxy, so that a test can search for leftovers of vproxy.
 */
import { appendFileSync, copyFileSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { isAbsolute, join, relative } from 'node:path';

import { cacheFolder } from '../../../tools/vm/cache.js';
import { CpioWriter } from '../../../tools/vm/cpio.js';
import { addModules } from '../../../tools/vm/kernel.js';
import { PROJECT_ROOT, staticImports } from '../../helpers/files.js';
import { debianRoot } from './debian-root.js';
import type { GuestSystem } from './guest-options.js';
import { AGENT_PORT, MODULES } from './init-script.js';
import type { Tools } from './tools.js';

/** The folder of the rig in the guest. */
export const RIG_FOLDER = '/opt/rig';

/** The rig's own programs in that guest, to be run with `${RIG_FOLDER}/node`. */
export const RIG_PROGRAMS = `${RIG_FOLDER}/dist/spec/vm/rig/guest`;

const BUSYBOX = `${RIG_FOLDER}/busybox`;

/** systemd starts udev itself, which finds the ports, but not the modules at their path here. */
const INIT = `#!${BUSYBOX} sh
for module in ${RIG_FOLDER}/modules/*.ko; do
  if [ -e $module ]; then ${BUSYBOX} insmod $module; fi
done
exec /lib/systemd/systemd
`;

const AGENT_UNIT = `[Unit]
Description=The agent of the rig
[Service]
ExecStart=${RIG_FOLDER}/node ${RIG_PROGRAMS}/agent.js /dev/virtio-ports/${AGENT_PORT}
Restart=always
RestartSec=200ms
StandardOutput=journal+console
`;

/** Unneeded units, which would only cost time. */
const MASKED = [
  'apt-daily.timer',
  'apt-daily-upgrade.timer',
  'dpkg-db-backup.timer',
  'serial-getty@ttyS0.service',
  'getty.target',
];

/** The key in the SMBIOS of all these guests. */
export const DEBIAN_KEY = '5a'.repeat(32);

/** A Debian without vproxy, which has booted when systemd has started everything. */
export const DEBIAN_SYSTEM: GuestSystem = {
  ...{ name: 'debian', writeArchive: buildSystemdInitramfs, stateFolder: cacheFolder(), memoryMiB: 2048 },
  credentials: { 'vproxy.key': Buffer.from(`${DEBIAN_KEY}\n`) },
  untilBooted: 'systemctl is-system-running --wait',
};

function buildSystemdInitramfs(path: string, tools: Tools): void {
  copyFileSync(debianRoot(), path);
  const added = `${path}.added`;
  const archive = new CpioWriter(added);
  archive.addFile('/init', INIT, 0o755);
  archive.addFile(BUSYBOX, readFileSync(tools.busybox), 0o755);
  // Its libraries are present: vproxy's own executable needs the same.
  archive.addFile(`${RIG_FOLDER}/node`, readFileSync(process.execPath), 0o755);
  addModules(archive, tools.kernel, MODULES, `${RIG_FOLDER}/modules`);
  const programs = join(PROJECT_ROOT, 'dist/spec/vm/rig/guest');
  const files = readdirSync(programs).filter((name) => name.endsWith('.js'));
  for (const file of staticImports(files.map((name) => join(programs, name)))) {
    if (isAbsolute(file)) archive.addFile(join(RIG_FOLDER, relative(PROJECT_ROOT, file)), readFileSync(file));
  }
  archive.addFile(`${RIG_FOLDER}/package.json`, '{"type":"module"}');
  const units = '/etc/systemd/system';
  archive.addFile(`${units}/rig-agent.service`, AGENT_UNIT);
  archive.addLink(`${units}/multi-user.target.wants/rig-agent.service`, `${units}/rig-agent.service`);
  for (const unit of MASKED) archive.addLink(`${units}/${unit}`, '/dev/null');
  // If it were empty, systemd would ask its first-boot questions.
  archive.addFile('/etc/machine-id', `${'0123456789abcdef'.repeat(2)}\n`);
  archive.addFile('/etc/hostname', 'guest\n');
  archive.close();
  // The kernel unpacks the archives in order, and later files win.
  appendFileSync(path, readFileSync(added));
  rmSync(added);
}
