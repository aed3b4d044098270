/** Whether this machine can run guests with KVM, or only under emulation. */
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

import { GUESTS_FOLDER } from './ssh.js';
import type { Tools } from './tools.js';

/** The accelerators of QEMU that the rig uses. */
export type Accelerator = 'kvm' | 'tcg';

const PROBE_MS = 6_000;

/**
 * KVM if a kernel shows a first line under it, else TCG. A device `/dev/kvm` proves nothing: on a nested host it may
 * abort, or hang before the kernel starts. A failure is kept until this machine boots. The environment variable
 * `VPROXY_VM_ACCEL` (`kvm` or `tcg`) decides instead.
 */
export async function chooseAccelerator(tools: Tools): Promise<Accelerator> {
  const asked = process.env['VPROXY_VM_ACCEL'];
  if (asked === 'kvm' || asked === 'tcg') return asked;
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return 'tcg';
  }
  const failed = join(GUESTS_FOLDER, `no-kvm-${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}`);
  if (existsSync(failed)) return 'tcg';
  if (await bootsUnderKvm(tools)) return 'kvm';
  mkdirSync(GUESTS_FOLDER, { recursive: true });
  writeFileSync(failed, '');
  return 'tcg';
}

async function bootsUnderKvm(tools: Tools): Promise<boolean> {
  const append = 'console=ttyS0 earlyprintk=ttyS0 panic=-1';
  const args = ['-accel', 'kvm', '-cpu', 'max', '-M', 'q35', '-m', '256', '-nodefaults', '-display', 'none'];
  args.push('-no-reboot', '-monitor', 'none', '-serial', 'stdio', '-kernel', tools.kernel.image, '-append', append);
  const child = spawn(tools.qemu, args, { stdio: ['ignore', 'pipe', 'ignore'] });
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  const timer = setTimeout(() => child.kill('SIGKILL'), PROBE_MS);
  let boots = false;
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (!line.includes('Linux version')) return;
    boots = true;
    child.kill('SIGKILL');
  });
  await ended;
  clearTimeout(timer);
  return boots;
}
