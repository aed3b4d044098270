/**
 * The archive of a guest that is a Debian with systemd: the Debian as it is installed, followed by what the rig adds.
 * Nothing of the rig is called after vproxy, so that a test can look for what vproxy leaves behind.
 */
import { appendFileSync, copyFileSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { basename, join, posix } from 'node:path';

import { PROJECT_ROOT } from '../../helpers/files.js';
import { CpioWriter } from './cpio.js';
import { debianRoot } from './debian-root.js';
import { AGENT_PORT, MODULES } from './init-script.js';
import { addModules } from './initramfs.js';
import type { Tools } from './tools.js';

/** The folder of the rig in the guest, with the requested files. */
export const RIG_FOLDER = '/opt/rig';

/** The rig's own programs in that guest, to be run with `${RIG_FOLDER}/node`. */
export const RIG_PROGRAMS = `${RIG_FOLDER}/dist/spec/vm/rig/guest`;

const BUSYBOX = `${RIG_FOLDER}/busybox`;

/** systemd starts udev itself, which finds the ports; only the modules are not where it looks for them. */
const INIT = `#!${BUSYBOX} sh
for module in ${MODULES.join(' ')}; do
  if [ -e ${RIG_FOLDER}/modules/$module.ko ]; then ${BUSYBOX} insmod ${RIG_FOLDER}/modules/$module.ko; fi
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

/** Units that would only cost time. */
const MASKED = [
  'apt-daily.timer',
  'apt-daily-upgrade.timer',
  'dpkg-db-backup.timer',
  'serial-getty@ttyS0.service',
  'getty.target',
];

/** Writes the archive to `path`, which must not exist; `files` of the host are in `RIG_FOLDER` then, under their names. */
export function buildSystemdInitramfs(path: string, tools: Tools, files: readonly string[]): void {
  copyFileSync(debianRoot(), path);
  const added = `${path}.added`;
  const archive = new CpioWriter(added);
  archive.addFile('/init', INIT, 0o755);
  archive.addFile(BUSYBOX, readFileSync(tools.busybox), 0o755);
  // The libraries that it needs are there: vproxy's own executable needs the same.
  archive.addFile(`${RIG_FOLDER}/node`, readFileSync(process.execPath), 0o755);
  addModules(archive, tools.kernel, MODULES, RIG_FOLDER);
  addPrograms(archive, 'dist/spec/vm/rig');
  archive.addFile(`${RIG_FOLDER}/package.json`, '{"type":"module"}');
  for (const file of files) archive.addFile(posix.join(RIG_FOLDER, basename(file)), readFileSync(file));
  const units = '/etc/systemd/system';
  archive.addFile(`${units}/rig-agent.service`, AGENT_UNIT);
  archive.addLink(`${units}/multi-user.target.wants/rig-agent.service`, `${units}/rig-agent.service`);
  for (const unit of MASKED) archive.addLink(`${units}/${unit}`, '/dev/null');
  // An empty one would have systemd ask its first questions.
  archive.addFile('/etc/machine-id', `${'0123456789abcdef'.repeat(2)}\n`);
  archive.addFile('/etc/hostname', 'guest\n');
  archive.close();
  // The kernel unpacks one archive after the other, and the later file counts.
  appendFileSync(path, readFileSync(added));
  rmSync(added);
}

/** The compiled JavaScript of a folder of the project and those below it. */
function addPrograms(archive: CpioWriter, folder: string): void {
  for (const entry of readdirSync(join(PROJECT_ROOT, folder), { withFileTypes: true })) {
    const part = posix.join(folder, entry.name);
    if (entry.isDirectory()) addPrograms(archive, part);
    else if (part.endsWith('.js'))
      archive.addFile(posix.join(RIG_FOLDER, part), readFileSync(join(PROJECT_ROOT, part)));
  }
}
