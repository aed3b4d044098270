/** Whether this machine can run guests with KVM, or only under emulation. */
import { spawn } from 'node:child_process';
import { accessSync, constants, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';

import { cacheFolder } from './cache.js';
import { machineArguments } from './machine.js';

/** The accelerators of QEMU that guests use. */
export type Accelerator = 'kvm' | 'tcg';

interface Trial {
  readonly qemu: string;
  readonly kernel: { readonly image: string };
}

const PROBE_MS = 5_000;

/**
 * KVM if a kernel shows a first line under it, else TCG. A device `/dev/kvm` proves nothing: on a nested host it may
 * abort, or hang before the kernel starts. A hang is remembered until this machine boots. The environment variable
 * `VPROXY_VM_ACCEL` (`kvm` or `tcg`) decides instead. Rejects if `signal` aborts the trial.
 */
export async function chooseAccelerator(trial: Trial, signal?: AbortSignal): Promise<Accelerator> {
  const asked = process.env['VPROXY_VM_ACCEL'];
  if (asked === 'kvm' || asked === 'tcg') return asked;
  try {
    accessSync('/dev/kvm', constants.R_OK | constants.W_OK);
  } catch {
    return 'tcg';
  }
  const hangs = join(cacheFolder(), `no-kvm-${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}`);
  if (existsSync(hangs)) return 'tcg';
  const boots = await bootsUnderKvm(trial, hangs, signal);
  signal?.throwIfAborted();
  return boots ? 'kvm' : 'tcg';
}

async function bootsUnderKvm({ qemu, kernel }: Trial, hangs: string, signal?: AbortSignal): Promise<boolean> {
  const args = ['-accel', 'kvm', ...machineArguments(process.arch, 'earlyprintk=ttyS0 panic=-1'), '-m', '256'];
  args.push('-no-reboot', '-serial', 'stdio', '-kernel', kernel.image);
  const child = spawn(qemu, args, { stdio: ['ignore', 'pipe', 'ignore'], detached: true });
  child.once('error', () => undefined);
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve()));
  // With its group: a script may start QEMU, and wait for it.
  const kill = () => child.kill('SIGKILL') && process.kill(-(child.pid ?? 0), 'SIGKILL');
  signal?.addEventListener('abort', kill);
  const timer = setTimeout(() => {
    kill();
    try {
      mkdirSync(dirname(hangs), { recursive: true });
      writeFileSync(hangs, '');
    } catch {
      // The folder cannot be written: the next run tries again.
    }
  }, PROBE_MS);
  let boots = false;
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (!line.includes('Linux version')) return;
    boots = true;
    kill();
  });
  await ended;
  clearTimeout(timer);
  return boots;
}
