/**
 * States of guests that have booted, kept for all guests that are made of the same. A state is identified by all that its
 * guest was made of and has seen of its machine: any change leads to a new boot.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';

import type { Accelerator } from './accel.js';
import type { GuestSystem } from './guest-options.js';
import type { Tools } from './tools.js';

/** What a state depends on. */
interface StateOrigin {
  readonly tools: Tools;
  readonly accelerator: Accelerator;
  readonly system: GuestSystem;
  /** The archive that the kernel unpacks. */
  readonly archive: string;
  /** The words of QEMU for what the guest sees of its machine. */
  readonly hardware: readonly string[];
}

/** Where the state of such a guest is kept, or will be. */
function statePath({ tools, accelerator, system, archive, hardware }: StateOrigin): string {
  const hash = createHash('sha256');
  hash.update(readFileSync(archive)).update(readFileSync(tools.kernel.image));
  hash.update(execFileSync(tools.qemu, ['--version']));
  // Under KVM the guest has seen the processor of this machine.
  const processor = accelerator === 'kvm' ? cpus()[0]?.model : undefined;
  hash.update(JSON.stringify([hardware, system.credentials, system.untilBooted, accelerator, processor]));
  return join(system.stateFolder, `${system.name}-${hash.digest('hex').slice(0, 32)}.state`);
}

/**
 * The path of such a state. Where it is missing `write` makes it, once, whichever processes ask for it at the same time; others of
 * the system are removed then, as they are of earlier builds.
 */
export async function keptState(origin: StateOrigin, write: (temporary: string) => Promise<void>): Promise<string> {
  const path = statePath(origin);
  if (existsSync(path)) return path;
  const { stateFolder, name } = origin.system;
  mkdirSync(stateFolder, { recursive: true });
  // The lock is its process's, and goes with this one, however it ends.
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
