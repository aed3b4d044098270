/** The virtio-serial ports of this machine. */
import { readdirSync } from 'node:fs';
import path from 'node:path';
import type { Machine } from './machine.js';

/** One port. */
export interface VirtioPort {
  /** Such as `vport1p1`. */
  readonly device: string;
  /** The name that QEMU gave it; empty for one without. */
  readonly name: string;
}

/** All of them, also consoles and those without a name. */
export function listVirtioPorts(machine: Machine): VirtioPort[] {
  try {
    return readdirSync(path.join(machine.options.sys, 'class/virtio-ports'))
      .sort()
      .map((device) => ({ device, name: machine.readSys(`class/virtio-ports/${device}/name`) ?? '' }));
  } catch {
    return [];
  }
}
