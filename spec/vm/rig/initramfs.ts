/** Builds the guest's file system: busybox, this machine's node, the built vproxy, dropbear, and the rig's agent. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, lstatSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { basename, join, posix } from 'node:path';

import { PROJECT_ROOT } from '../../helpers/files.js';
import { CpioWriter } from './cpio.js';
import { AGENT_PORT, formatInitScript, MODULES } from './init-script.js';
import { bundleTo } from './make-package.js';
import { listProductionModules } from './production-modules.js';
import type { Kernel, Tools } from './tools.js';

/** Where the guest has the project. */
export const GUEST_PROJECT = '/opt/vproxy';

/** The command line of vproxy in the guest. */
export const GUEST_VPROXY = `${GUEST_PROJECT}/dist/program/vproxy.cjs`;

/**
 * The same as one file, beside the modules that are not in it. Under emulation it starts in a third of the time, because
 * Node looks for one module and not for hundreds.
 */
export const GUEST_BUNDLE = `${GUEST_PROJECT}/dist/vproxy.cjs`;

/** Where the guest has a package instead of it. */
export const GUEST_PACKAGE = '/usr/local/bin/vproxy';

/** The programs of the rig in the guest. */
export const GUEST_RIG = `${GUEST_PROJECT}/dist/spec/vm/rig/guest`;

/** What is different from guest to guest. */
export interface InitramfsOptions {
  readonly tools: Tools;
  /** The host key of the guest's ssh server, in dropbear's form. */
  readonly hostKeyFile: string;
  /** The line of the key that may log in as root. */
  readonly authorizedKey: string;
  /** The ports under test. */
  readonly ports: readonly string[];
  /** The modules to insert besides those of virtio-serial. */
  readonly modules: readonly string[];
  /** See `GuestOptions.packageFile`. */
  readonly packageFile?: string;
}

/**
 * Writes the archive to `path`, which must not exist. It is not compressed: unpacking under emulation costs more than
 * reading, and without compression it is built in a fraction of a second, so every guest gets its own and none is kept.
 */
export function buildInitramfs(path: string, options: InitramfsOptions): void {
  const { tools } = options;
  const modules = [...MODULES, ...options.modules];
  const archive = new CpioWriter(path);
  for (const folder of ['/dev', '/proc', '/sys', '/run', '/srv', '/tmp', '/etc', '/var/log']) archive.addFolder(folder);
  archive.addDevice('/dev/console', 5, 1);
  addBusybox(archive, tools.busybox);
  addProgram(archive, process.execPath, '/usr/bin/node');
  addProgram(archive, tools.dropbear, '/usr/sbin/dropbear');
  addModules(archive, tools.kernel, modules);
  addAccounts(archive, options);
  const { packageFile } = options;
  // The rig's own programs need the libraries.
  addProject(archive, packageFile === undefined ? ['dist/lib', 'dist/program'] : ['dist/lib']);
  if (packageFile !== undefined) addProgram(archive, packageFile, GUEST_PACKAGE);
  const wrapper = packageFile === undefined ? `${GUEST_PROJECT}/dist/program/vproxy-storage.cjs` : GUEST_PACKAGE;
  archive.addLink('/usr/sbin/storcli64', wrapper);
  if (packageFile === undefined) {
    addBundle(archive, `${path}.cjs`);
    archive.addLink('/usr/bin/vproxy', GUEST_BUNDLE);
    archive.addLink('/usr/bin/vproxy-storage', wrapper);
  }
  const agent = `node ${GUEST_RIG}/agent.js /dev/virtio-ports/${AGENT_PORT}`;
  const ports = [...options.ports, AGENT_PORT];
  archive.addFile('/init', formatInitScript({ ports, modules, agent }), 0o755);
  archive.close();
}

function addBusybox(archive: CpioWriter, busybox: string): void {
  addProgram(archive, busybox, '/bin/busybox');
  const applets = execFileSync(busybox, ['--list-full'], { encoding: 'utf8' }).trim().split('\n');
  for (const applet of applets) {
    if (basename(applet) !== 'busybox') archive.addLink(`/${applet}`, '/bin/busybox');
  }
}

/** A program, and the libraries that it needs. */
function addProgram(archive: CpioWriter, source: string, target: string): void {
  archive.addFile(target, readFileSync(source), 0o755);
  addLibraries(archive, source);
}

/** The libraries that `ldd` lists for a program or an addon of Node, each where the loader looks for it. */
function addLibraries(archive: CpioWriter, source: string): void {
  // Of a static program ldd says on stderr that it is one.
  const { stdout } = spawnSync('ldd', [source], { encoding: 'utf8' });
  for (const [, library] of stdout.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)) {
    if (library === undefined || archive.has(library)) continue;
    archive.addFile(library, readFileSync(library), 0o755);
  }
}

/** Modules of the kernel, as `/modules/NAME.ko` below `folder`; what is built into it is left out. */
export function addModules(archive: CpioWriter, kernel: Kernel, modules: readonly string[], folder = ''): void {
  const listed = readFileSync(join(kernel.modulesFolder, 'modules.dep'), 'utf8').split('\n');
  for (const module of modules) {
    const line = listed.find((entry) => new RegExp(`/${module}\\.ko(\\.\\w+)?:`).test(entry));
    // What is not listed is built into this kernel.
    if (line === undefined) continue;
    const file = join(kernel.modulesFolder, line.slice(0, line.indexOf(':')));
    archive.addFile(`${folder}/modules/${module}.ko`, readModule(file));
  }
}

function readModule(file: string): Buffer {
  const unpack = { '.xz': 'xz', '.gz': 'gzip', '.zst': 'zstd' }[posix.extname(file)];
  if (unpack === undefined) return readFileSync(file);
  return execFileSync(unpack, ['-dc', file], { maxBuffer: 64 << 20 });
}

function addAccounts(archive: CpioWriter, options: InitramfsOptions): void {
  archive.addFile('/etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n');
  archive.addFile('/etc/group', 'root:x:0:\n');
  archive.addFile('/etc/shells', '/bin/sh\n');
  archive.addFile('/etc/hosts', '127.0.0.1 localhost guest\n');
  archive.addFolder('/root', 0o700);
  archive.addFolder('/root/.ssh', 0o700);
  archive.addFile('/root/.ssh/authorized_keys', `${options.authorizedKey}\n`, 0o600);
  archive.addFile('/etc/dropbear/host_key', readFileSync(options.hostKeyFile), 0o600);
}

/** `temporary` is where it is made. */
function addBundle(archive: CpioWriter, temporary: string): void {
  bundleTo(temporary);
  archive.addFile(GUEST_BUNDLE, readFileSync(temporary), 0o755);
  rmSync(temporary);
}

function addProject(archive: CpioWriter, folders: readonly string[]): void {
  const parts = ['package.json', ...folders, 'dist/spec/vm/rig', ...listProductionModules(PROJECT_ROOT)];
  for (const part of parts) {
    if (!existsSync(join(PROJECT_ROOT, part))) throw new Error(`${part} is not there: run npm run build`);
    addTree(archive, part, part.startsWith('dist/spec') ? '' : 'node_modules');
  }
}

/** A file or folder of the project with all below it, except what is called `skip`. */
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
