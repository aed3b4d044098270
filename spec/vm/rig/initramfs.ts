/** Builds the guest's file system: busybox, this machine's node, the built vproxy, dropbear, and the rig's agent. */
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join, posix } from 'node:path';

import { addLibraries, addProgram, beginArchive } from '../../../tools/vm/archive.js';
import type { CpioWriter } from '../../../tools/vm/cpio.js';
import { PROJECT_ROOT, projectText } from '../../helpers/files.js';
import { type GuestSystem, PORT_NAME } from './guest-options.js';
import { GUEST_PORTS } from './guest-ports.js';
import { AGENT_PORT, formatInitScript, MODULES } from './init-script.js';
import { GUESTS_FOLDER, sshKeys } from './ssh.js';
import type { Tools } from './tools.js';

/** The folder of the project in the guest. */
const GUEST_PROJECT = '/opt/vproxy';

/** The command line of vproxy in the guest. */
export const GUEST_VPROXY = `${GUEST_PROJECT}/dist/program/vproxy.cjs`;

/** Its storage wrapper there. */
const GUEST_STORAGE = `${GUEST_PROJECT}/dist/program/vproxy-storage.cjs`;

/** The programs of the rig in the guest. */
const GUEST_RIG = `${GUEST_PROJECT}/dist/spec/vm/rig/guest`;

/** Contains `ready` when the targets of the tests' forwards have started; the ssh server always has. */
const SERVICES_LOG = '/run/services.log';

/** Waits, in the guest, for the targets of the tests' forwards. */
export const AWAIT_SERVICES = `until grep -q ready ${SERVICES_LOG}; do usleep 20000; done`;

/** Busybox, the built vproxy, an ssh server, and the targets of the tests' forwards. */
export const BUSYBOX_SYSTEM: GuestSystem = {
  ...{ name: 'busybox', writeArchive: buildInitramfs, stateFolder: GUESTS_FOLDER, memoryMiB: 1024 },
  untilBooted: AWAIT_SERVICES,
};

/**
 * Writes the archive to `path`, which must not exist. It is not compressed: unpacking under emulation costs more than
 * reading, and without compression it is built in a fraction of a second, so every guest gets its own and none is kept.
 */
export function buildInitramfs(path: string, tools: Tools): void {
  const archive = startArchive(path, tools);
  addProgram(archive, process.execPath, '/usr/bin/node');
  for (const part of ['package.json', 'dist/lib', 'dist/program', 'dist/spec/vm/rig', ...listProductionModules()]) {
    if (!existsSync(join(PROJECT_ROOT, part))) throw new Error(`${part} is not there: run npm run build`);
    addTree(archive, part, part.startsWith('dist/spec') ? '' : 'node_modules');
  }
  archive.addLink('/usr/bin/vproxy', GUEST_VPROXY);
  for (const wrapper of ['/usr/sbin/storcli64', '/usr/bin/vproxy-storage']) archive.addLink(wrapper, GUEST_STORAGE);
  const agent = `node ${GUEST_RIG}/agent.js /dev/virtio-ports/${AGENT_PORT}`;
  const services = [SSH_SERVER, `node ${GUEST_RIG}/services.js > ${SERVICES_LOG} &`];
  archive.addFile('/init', formatInitScript([PORT_NAME, AGENT_PORT], services, agent), 0o755);
  archive.close();
}

/** Starts the ssh server of an archive. */
export const SSH_SERVER = `dropbear -E -s -W 1048576 -r /etc/dropbear/host_key -p 127.0.0.1:${GUEST_PORTS.ssh}`;

/** Begins an archive with busybox, the ssh server, the other ends of rsync, sftp and git, kernel modules and accounts. */
export function startArchive(path: string, tools: Tools): CpioWriter {
  const archive = beginArchive(path, tools, MODULES);
  addProgram(archive, tools.dropbear, '/usr/sbin/dropbear');
  addProgram(archive, tools.rsync, '/usr/bin/rsync');
  addProgram(archive, tools.sftpServer, '/usr/lib/openssh/sftp-server');
  addProgram(archive, tools.git, '/usr/bin/git');
  for (const command of ['git-receive-pack', 'git-upload-pack']) archive.addLink(`/usr/bin/${command}`, '/usr/bin/git');
  const keys = sshKeys(tools);
  archive.addFolder('/root/.ssh', 0o700);
  archive.addFile('/root/.ssh/authorized_keys', readFileSync(`${keys.identityFile}.pub`), 0o600);
  archive.addFile('/etc/dropbear/host_key', readFileSync(keys.hostKeyFile), 0o600);
  return archive;
}

interface LockFile {
  readonly packages: Readonly<Record<string, { readonly dev?: boolean; readonly optional?: boolean }>>;
}

/**
 * The folders of the run-time dependencies in the lock file, relative to the project: `node_modules/yargs`, …; of the optional
 * ones only those that are installed.
 */
function listProductionModules(): string[] {
  const lock = JSON.parse(projectText('package-lock.json')) as LockFile;
  return Object.entries(lock.packages)
    .filter(([path, entry]) => path !== '' && entry.dev !== true)
    .filter(([path, entry]) => entry.optional !== true || existsSync(join(PROJECT_ROOT, path)))
    .map(([path]) => path);
}

/** Adds a file or folder of the project with everything below it, except entries named `skip`. */
function addTree(archive: CpioWriter, part: string, skip: string): void {
  const source = join(PROJECT_ROOT, part);
  const target = posix.join(GUEST_PROJECT, part);
  const entry = lstatSync(source);
  if (entry.isSymbolicLink()) {
    archive.addLink(target, readlinkSync(source));
  } else if (entry.isDirectory()) {
    archive.addFolder(target);
    for (const name of readdirSync(source).sort()) if (name !== skip) addTree(archive, posix.join(part, name), skip);
  } else if (!/\.(d\.ts|map|tsbuildinfo)$/.test(part)) {
    archive.addFile(target, readFileSync(source), entry.mode & 0o777);
    if (part.endsWith('.node')) addLibraries(archive, source);
  }
}
