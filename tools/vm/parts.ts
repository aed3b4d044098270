/** Everything that the VM is made of, found on this machine or built. */
import { accessSync, constants, existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { findProgram } from '../bench/process/find-program.js';
import { type Accelerator, chooseAccelerator } from './accel.js';
import { BOOT_SCRIPT, beginArchive } from './archive.js';
import { cacheFolder } from './cache.js';
import { debianKernel } from './debian-kernel.js';
import { guestProgram } from './guest-program.js';
import { type Kernel, kernelOf, newestKernel, PORT_MODULES } from './kernel.js';
import { QEMU } from './machine.js';
import { MissingError, missing } from './missing.js';

/** The name of the guest's port. */
export const PORT_NAME = 'org.vproxy.0';

/** The ports that the guest announces, and for which the host listens. */
export const ANNOUNCED = '1024-65535';

/** When vproxy-guest ends, the VM does. */
const INIT = `${BOOT_SCRIPT}echo 0 > /proc/sys/kernel/printk
vproxy-guest -c virtserial-open:${PORT_NAME} --allow-exec --allow-copy --announce-ports ${ANNOUNCED} > /dev/console 2>&1
poweroff -f
`;

export interface VmParts {
  readonly qemu: string;
  readonly kernel: Kernel;
  readonly accelerator: Accelerator;
  readonly archive: string;
}

/** How the parts are found. */
export interface PartsOptions {
  /** The path of a kernel, or undefined to find one. */
  readonly kernel: string | undefined;
  /** For the archive, and for everything if the cache cannot be written. */
  readonly folder: string;
  readonly signal: AbortSignal;
  readonly report: (text: string) => void;
}

/** Finds or builds everything. Rejects with a `MissingError` for what must be installed. */
export async function prepareParts({ kernel: asked, folder, signal, report }: PartsOptions): Promise<VmParts> {
  const { program, debianPackage } = QEMU[process.arch] ?? {};
  if (program === undefined || debianPackage === undefined) throw new MissingError(`no VM for ${process.arch}`);
  const qemu = findProgram(program);
  if (qemu === undefined) throw missing(program, debianPackage);
  const busybox = findProgram('busybox');
  if (busybox === undefined) throw missing('busybox', 'busybox-static');
  const cache = usableCache(folder);
  const kernel = asked === undefined ? await findKernel({ cache, busybox, signal, report }) : kernelOf(asked);
  if (!existsSync(kernel.image)) throw new MissingError(`${kernel.image}: no such kernel`);
  if (!existsSync(kernel.modulesFolder))
    report(`no modules in ${kernel.modulesFolder}: virtio must be built into the kernel`);
  report('compiling vproxy-guest, and looking whether KVM works');
  const choosing = chooseAccelerator({ qemu, kernel }, signal);
  choosing.catch(() => undefined);
  const guest = await guestProgram(cache, folder, signal);
  const accelerator = await choosing;
  // Not kept: it takes less time than to find out whether it is up to date.
  const path = join(folder, 'initramfs');
  const archive = beginArchive(path, { busybox, kernel }, PORT_MODULES);
  archive.addFile('/usr/bin/vproxy-guest', readFileSync(guest), 0o755);
  archive.addFile('/init', INIT, 0o755);
  archive.close();
  return { qemu, kernel, accelerator, archive: path };
}

/** The cache, or, if this user cannot write there, a folder in its place that ends with the run. */
function usableCache(folder: string): string {
  const cache = cacheFolder();
  try {
    mkdirSync(cache, { recursive: true });
    accessSync(cache, constants.W_OK | constants.X_OK);
    return cache;
  } catch {
    const own = join(folder, 'cache');
    mkdirSync(own, { recursive: true });
    return own;
  }
}

interface Search extends Pick<PartsOptions, 'signal' | 'report'> {
  readonly cache: string;
  readonly busybox: string;
}

async function findKernel({ cache, busybox, signal, report }: Search): Promise<Kernel> {
  const installed = newestKernel();
  if (installed !== undefined) return installed;
  report('no kernel in /boot that this user can read: using that of a Debian package');
  try {
    return await debianKernel(cache, busybox, signal);
  } catch (error) {
    signal.throwIfAborted();
    const reason = (error instanceof Error ? error.message : String(error)).trimEnd().split('\n').at(-1);
    throw new MissingError(`no kernel, and none can be downloaded (${reason}); give one with --kernel PATH`);
  }
}
