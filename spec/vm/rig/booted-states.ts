/**
 * States of guests that have booted, kept in `dist/guests/` for the test files after the one that booted first. A state is
 * identified by all that the guest was made of and has seen of its machine: any change leads to a new boot.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';

import { PROJECT_ROOT } from '../../helpers/files.js';
import type { Accelerator } from './accel.js';
import { listSshKeys, makeSshKeys, type SshKeys } from './ssh-keys.js';
import type { Tools } from './tools.js';

const FOLDER = join(PROJECT_ROOT, 'dist/guests');

/** What a state depends on. */
export interface StateOrigin {
  readonly tools: Tools;
  readonly accelerator: Accelerator;
  /** The archive that the kernel unpacks. */
  readonly archive: string;
  /** The words of QEMU for what the guest sees of its machine. */
  readonly hardware: readonly string[];
}

/** Where the state of such a guest is kept, or will be. */
export function statePath({ tools, accelerator, archive, hardware }: StateOrigin): string {
  const hash = createHash('sha256');
  hash.update(readFileSync(archive)).update(readFileSync(tools.kernel.image));
  hash.update(execFileSync(tools.qemu, ['--version']));
  // Under KVM the guest has seen the processor of this machine.
  const processor = accelerator === 'kvm' ? cpus()[0]?.model : undefined;
  hash.update(JSON.stringify([hardware, accelerator, processor]));
  return join(FOLDER, `${hash.digest('hex').slice(0, 32)}.state`);
}

/**
 * Lets `write` make a state, which then appears complete at `path`, and removes the others: they are of earlier builds.
 */
export async function keepState(path: string, write: (temporary: string) => Promise<void>): Promise<void> {
  mkdirSync(FOLDER, { recursive: true });
  const temporary = `${path}.${process.pid}`;
  try {
    await write(temporary);
    for (const name of readdirSync(FOLDER)) if (name.endsWith('.state')) rmSync(join(FOLDER, name), { force: true });
    renameSync(temporary, path);
  } finally {
    rmSync(temporary, { force: true });
  }
}

/** The keys of all guests whose state may be kept; they are part of it. */
export function sharedSshKeys(tools: Tools): SshKeys {
  const folder = join(FOLDER, 'keys');
  if (!existsSync(folder)) {
    mkdirSync(FOLDER, { recursive: true });
    const temporary = mkdtempSync(`${folder}-`);
    try {
      makeSshKeys(tools, temporary);
      renameSync(temporary, folder);
    } catch (error) {
      // Another process has made them at the same time.
      if (!existsSync(folder)) throw error;
    } finally {
      rmSync(temporary, { recursive: true, force: true });
    }
  }
  return listSshKeys(folder);
}
