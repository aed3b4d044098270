/** The part that all guests' file systems have: busybox with its applets, kernel modules, and programs of this machine. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { basename } from 'node:path';
import { findProgram } from '../bench/process/find-program.js';
import { CpioWriter } from './cpio.js';
import { addModules, type Kernel } from './kernel.js';
import { missing } from './missing.js';

const FOLDERS = ['/dev', '/proc', '/sys', '/run', '/srv', '/tmp', '/etc', '/var/log'];

/** The beginning of an `/init` for busybox's shell: mounts, the loopback interface, and the modules of the archive. */
export const BOOT_SCRIPT = `#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /run
mount -t tmpfs -o size=60% tmpfs /tmp
hostname guest
ip link set lo up
for module in /modules/*.ko; do if [ -e $module ]; then insmod $module; fi; done
`;

/** The parts of this machine that an archive begins with. */
interface ArchiveParts {
  readonly busybox: string;
  readonly kernel: Kernel;
}

/** Begins an archive at `path`, which must not exist, with busybox, the modules of these names, and the account of root. */
export function beginArchive(path: string, { busybox, kernel }: ArchiveParts, modules: readonly string[]): CpioWriter {
  const archive = new CpioWriter(path);
  for (const folder of FOLDERS) archive.addFolder(folder);
  archive.addDevice('/dev/console', 5, 1);
  addProgram(archive, busybox, '/bin/busybox');
  const applets = execFileSync(busybox, ['--list-full'], { encoding: 'utf8' }).trim().split('\n');
  for (const applet of applets) {
    if (basename(applet) !== 'busybox') archive.addLink(`/${applet}`, '/bin/busybox');
  }
  addModules(archive, kernel, modules, '/modules');
  archive.addFile('/etc/passwd', 'root:x:0:0:root:/root:/bin/sh\n');
  archive.addFile('/etc/group', 'root:x:0:\n');
  archive.addFile('/etc/shells', '/bin/sh\n');
  archive.addFile('/etc/hosts', '127.0.0.1 localhost guest\n');
  archive.addFolder('/root', 0o700);
  return archive;
}

/** Adds a program, and the libraries that it needs. */
export function addProgram(archive: CpioWriter, source: string, target: string): void {
  archive.addFile(target, readFileSync(source), 0o755);
  addLibraries(archive, source);
}

/** The libraries that `ldd` lists for a program or a Node addon, where the loader looks for them. */
export function addLibraries(archive: CpioWriter, source: string): void {
  if (findProgram('ldd') === undefined) throw missing('ldd', 'libc-bin');
  // It reports a static program on stderr.
  const { stdout } = spawnSync('ldd', [source], { encoding: 'utf8' });
  for (const [, library] of stdout.matchAll(/(?:=> |^\s*)(\/\S+) \(0x/gm)) {
    if (library === undefined || archive.has(library)) continue;
    archive.addFile(library, readFileSync(library), 0o755);
  }
}
