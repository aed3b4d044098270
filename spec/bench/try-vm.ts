/** The parts of `npm run vm` that need no VM: its command line, the choice of a kernel, its modules, its archive and its QEMU. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { CpioWriter } from '../../tools/vm/cpio.js';
import { addModules, kernelOf, moduleFiles, newestKernel } from '../../tools/vm/kernel.js';
import { machineArguments } from '../../tools/vm/machine.js';
import { parseVmOptions } from '../../tools/vm/options.js';
import { temporaryFolder } from '../helpers/files.js';

test('the options of a VM end at the first word that is not one', (t) => {
  const usual = { command: [], kernel: undefined, isQuiet: false, wantsHelp: false };
  t.deepEqual(parseVmOptions([]), usual);
  t.deepEqual(parseVmOptions(['--', '--quiet', 'x']), { ...usual, command: ['--quiet', 'x'] });
  t.deepEqual(parseVmOptions(['--quiet', 'ls', '-l']), { ...usual, isQuiet: true, command: ['ls', '-l'] });
  t.is(parseVmOptions([], { VPROXY_VM_KERNEL: '/a' }).kernel, '/a');
  t.is(parseVmOptions([], { VPROXY_VM_KERNEL: '' }).kernel, undefined);
  for (const words of [['--kernel', '/b'], ['--kernel=/b']])
    t.is(parseVmOptions(words, { VPROXY_VM_KERNEL: '/a' }).kernel, '/b');
  t.true(parseVmOptions(['-h']).wantsHelp);
  for (const words of [['--kernel'], ['--kernel='], ['--cpu', '1']]) t.throws(() => parseVmOptions(words));
});

test('the newest kernel with modules is chosen', (t) => {
  const root = temporaryFolder(t);
  t.is(newestKernel(root), undefined);
  mkdirSync(join(root, 'boot'));
  for (const version of ['6.9.0-1', '6.10.0-1', '6.11.0-1']) {
    writeFileSync(join(root, 'boot', `vmlinuz-${version}`), '');
    mkdirSync(join(root, 'lib/modules', version), { recursive: true });
    if (version !== '6.11.0-1') writeFileSync(join(root, 'lib/modules', version, 'modules.dep'), '');
  }
  const image = join(root, 'boot/vmlinuz-6.10.0-1');
  const found = { version: '6.10.0-1', image, modulesFolder: join(root, 'lib/modules/6.10.0-1') };
  t.deepEqual(newestKernel(root), found);
  t.is(kernelOf('/x/boot/vmlinuz-1.2').modulesFolder, '/lib/modules/1.2');
});

const DEPENDENCIES = `\
k/notvirtio_pci.ko: k/other.ko
k/virtio_pci.ko.xz: k/virtio_modern.ko.xz k/virtio.ko.xz k/virtio_ring.ko.xz
k/virtio_console.ko.xz: k/virtio.ko.xz k/virtio_ring.ko.xz
k/virtio.ko.xz: k/virtio_ring.ko.xz
`;

test('modules are inserted after those that they need, and those built in are not', (t) => {
  t.deepEqual(
    moduleFiles(DEPENDENCIES, ['virtio_pci', 'virtio_console', 'built_in']),
    ['virtio_ring', 'virtio', 'virtio_modern', 'virtio_pci', 'virtio_console'].map((name) => `k/${name}.ko.xz`),
  );
});

test('an archive has folders, files, links and modules in their order', (t) => {
  const folder = temporaryFolder(t);
  mkdirSync(join(folder, 'k'));
  writeFileSync(join(folder, 'modules.dep'), 'k/b.ko: k/a.ko\nk/a.ko:\n');
  for (const name of ['a', 'b']) writeFileSync(join(folder, `k/${name}.ko`), name);
  const path = join(folder, 'archive');
  const archive = new CpioWriter(path);
  archive.addFile('/bin/sh', 'text', 0o755);
  archive.addLink('/bin/ash', '/bin/sh');
  addModules(archive, { version: '1', image: '', modulesFolder: folder }, ['b'], '/modules');
  archive.close();
  const bytes = readFileSync(path, 'latin1');
  const names = [...bytes.matchAll(/070701[0-9a-f]{104}([^\0]+)\0/g)].map(([, name]) => name);
  t.deepEqual(names, ['bin', 'bin/sh', 'bin/ash', 'modules', 'modules/00-a.ko', 'modules/01-b.ko', 'TRAILER!!!']);
  t.is(bytes.length % 4, 0);
  t.regex(bytes, /070701.{8}000081ed.{32}00000004.{48}bin\/sh\0/);
});

test('the machine has a console for its processor', (t) => {
  t.is(machineArguments('x64', 'quiet').at(-1), 'console=ttyS0 quiet');
  t.true(machineArguments('arm64', 'quiet').includes('console=ttyAMA0 quiet'));
});
