/** The kernel of a guest, and the modules that it needs. */
import { execFileSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, extname, join } from 'node:path';
import { findProgram } from '../bench/process/find-program.js';
import type { CpioWriter } from './cpio.js';
import { missing } from './missing.js';

/** A kernel that can be read. */
export interface Kernel {
  readonly version: string;
  readonly image: string;
  readonly modulesFolder: string;
}

/** The modules of a virtio-serial port. */
export const PORT_MODULES: readonly string[] = ['virtio_pci', 'virtio_console'];

/**
 * The newest kernel below `root` of which both the image and the modules can be read: Ubuntu's images can be read by root only,
 * and a container may have no kernel.
 */
export function newestKernel(root = '/'): Kernel | undefined {
  const folder = join(root, 'boot');
  const images = (isReadable(folder) ? readdirSync(folder) : []).filter((name) => name.startsWith('vmlinuz-'));
  const newestFirst = images.sort((a, b) => b.localeCompare(a, 'en', { numeric: true }));
  const kernels = newestFirst.map((name) => kernelOf(join(folder, name)));
  return kernels.find(
    ({ image, modulesFolder }) => existsSync(join(modulesFolder, 'modules.dep')) && isReadable(image),
  );
}

/** The kernel with the image `…/boot/vmlinuz-VERSION`, whose modules are in `…/lib/modules/VERSION` or in that of this machine. */
export function kernelOf(image: string): Kernel {
  const version = basename(image).replace(/^vmlinu[xz]-/, '');
  const beside = join(dirname(dirname(image)), 'lib/modules', version);
  return { version, image, modulesFolder: existsSync(beside) ? beside : join('/lib/modules', version) };
}

function isReadable(path: string): boolean {
  try {
    accessSync(path, constants.R_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * The files of modules in the order in which to insert them, each after those that it needs, by the text of `modules.dep`. A name
 * that is not listed is built into the kernel.
 */
export function moduleFiles(dependencies: string, names: readonly string[]): string[] {
  const files = new Set<string>();
  const lines = dependencies.split('\n');
  for (const name of names) {
    const [, file, needed = ''] =
      lines.map((line) => /^(\S+):(.*)$/.exec(line)).find((line) => moduleName(line?.[1] ?? '') === name) ?? [];
    if (file === undefined) continue;
    // As modprobe does: the last of them needs none of the others.
    for (const one of [file, ...needed.split(' ')].reverse()) if (one !== '') files.add(one);
  }
  return [...files];
}

const moduleName = (file: string): string => basename(file).replace(/\.ko(\.\w+)?$/, '');

/** Adds these modules of a kernel, and all that they need, to `folder`, with names that sort in the order of insertion. */
export function addModules(archive: CpioWriter, kernel: Kernel, names: readonly string[], folder: string): void {
  const list = join(kernel.modulesFolder, 'modules.dep');
  // A kernel without it has everything built in.
  const files = existsSync(list) ? moduleFiles(readFileSync(list, 'utf8'), names) : [];
  for (const [index, file] of files.entries()) {
    const name = `${String(index).padStart(2, '0')}-${moduleName(file)}.ko`;
    archive.addFile(`${folder}/${name}`, readModule(join(kernel.modulesFolder, file)));
  }
}

function readModule(file: string): Buffer {
  const unpack = { '.xz': 'xz', '.gz': 'gzip', '.zst': 'zstd' }[extname(file)];
  if (unpack === undefined) return readFileSync(file);
  if (findProgram(unpack) === undefined) throw missing(unpack, unpack === 'xz' ? 'xz-utils' : unpack);
  return execFileSync(unpack, ['-dc', file], { maxBuffer: 64 << 20 });
}
