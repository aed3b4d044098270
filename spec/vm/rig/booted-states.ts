/**
 * Snapshots of booted guests, kept for all guests with the same contents. A state is identified by everything that its guest was
 * built from and has seen of its machine: any change causes a new boot.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';

import type { Accelerator } from '../../../tools/vm/accel.js';
import type { GuestSystem } from './guest-options.js';
import type { Tools } from './tools.js';

/** The inputs of a state. */
interface StateOrigin {
  readonly tools: Tools;
  readonly accelerator: Accelerator;
  readonly system: GuestSystem;
  readonly stateFolder: string;
  /** The archive that the kernel unpacks. */
  readonly archive: string;
  /** The QEMU arguments for everything that the guest sees of its machine. */
  readonly hardware: readonly string[];
}

/** The path of the state of such a guest. */
function statePath({ tools, accelerator, system, stateFolder, archive, hardware }: StateOrigin): string {
  const hash = createHash('sha256');
  hash.update(readFileSync(archive)).update(readFileSync(tools.kernel.image));
  hash.update(execFileSync(tools.qemu, ['--version']));
  // Under KVM the guest has seen the processor of this machine.
  const processor = accelerator === 'kvm' ? cpus()[0]?.model : undefined;
  hash.update(JSON.stringify([hardware, system.credentials, system.untilBooted, accelerator, processor]));
  return join(stateFolder, `${system.name}-${hash.digest('hex').slice(0, 32)}.state`);
}

/**
 * Resolves with the path of such a state. If it is missing, `write` makes it, once even for concurrent processes; other states of
 * the system are then removed, as they are from earlier builds.
 */
export async function keptState(origin: StateOrigin, write: (temporary: string) => Promise<void>): Promise<string> {
  const path = statePath(origin);
  if (existsSync(path)) return path;
  const { stateFolder } = origin;
  const { name } = origin.system;
  mkdirSync(stateFolder, { recursive: true });
  // The lock belongs to its process, and is released with this one, however it ends.
  const lock = spawn('flock', [join(stateFolder, `${name}.lock`), 'sh', '-c', 'echo; exec cat'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  await once(lock.stdout, 'data');
  const temporary = `${path}.new`;
  try {
    if (existsSync(path)) return path;
    await write(temporary);
    for (const file of readdirSync(stateFolder)) {
      if (file.startsWith(`${name}-`) && file.endsWith('.state')) rmSync(join(stateFolder, file), { force: true });
    }
    renameSync(temporary, path);
    return path;
  } finally {
    rmSync(temporary, { force: true });
    lock.stdin.end();
  }
}
