/** The kernel of a Debian package, for users who cannot read the installed one, and for machines without any. */
import { existsSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { findProgram } from '../bench/process/find-program.js';
import { type Kernel, newestKernel } from './kernel.js';
import { runToEnd } from './run-to-end.js';

/** The smallest kernel with virtio of Debian, and that of Ubuntu. */
const names = (): readonly string[] => [
  `linux-image-cloud-${process.arch === 'x64' ? 'amd64' : process.arch}`,
  'linux-image-virtual',
];
const DIRECT_ONLY = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances'].map(
  (kind) => `--no-${kind}`,
);

/** The kernel in `folder`, where it is downloaded and unpacked if it is missing. */
export async function debianKernel(folder: string, busybox: string, signal: AbortSignal): Promise<Kernel> {
  const root = join(folder, 'kernel');
  const kept = newestKernel(root);
  if (kept !== undefined) return kept;
  const work = mkdtempSync(join(folder, 'kernel-'));
  try {
    const unpacked = join(work, 'root');
    const options = { cwd: work, signal };
    await runToEnd('apt-get', ['download', '--quiet', ...(await packages(signal))], options);
    for (const file of readdirSync(work)) await runToEnd('dpkg-deb', ['--extract', file, unpacked], options);
    if (!existsSync(join(unpacked, 'lib'))) symlinkSync('usr/lib', join(unpacked, 'lib'));
    // The package leaves `modules.dep` to its installation.
    const depmod = findProgram('depmod') ?? busybox;
    for (const version of readdirSync(join(unpacked, 'lib/modules')))
      await runToEnd(depmod, [...(depmod === busybox ? ['depmod'] : []), '-b', unpacked, version], options);
    // Another process may have been faster; a part of a kernel is of no use.
    if (newestKernel(root) === undefined) rmSync(root, { recursive: true, force: true });
    if (!existsSync(root)) renameSync(unpacked, root);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  const kernel = newestKernel(root);
  if (kernel === undefined) throw new Error(`${basename(root)}: no kernel in the package`);
  return kernel;
}

/** The packages with the files of the kernel, which the package without a version needs. */
async function packages(signal: AbortSignal): Promise<string[]> {
  for (const name of names()) {
    const words = ['depends', '--recurse', ...DIRECT_ONLY, name];
    const listed = await runToEnd('apt-cache', words, { signal }).catch(() => '');
    signal.throwIfAborted();
    const found = new Set(listed.match(/^linux-(?:image|modules)-\d\S*/gm));
    if (found.size > 0) return [...found];
  }
  throw new Error('apt lists none: sudo apt-get update');
}
