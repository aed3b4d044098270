/** Options of guests. */
import type { Tools } from './tools.js';

/** The default name of the port under test. */
export const PORT_NAME = 'org.vproxy.0';

/** The options of a guest. */
export interface GuestOptions {
  /** The name of the port under test. Default `PORT_NAME`. */
  readonly portName?: string;
  /** All QEMU arguments for the ports under test and their buses, instead of the default ones. */
  readonly portArguments?: readonly string[];
  /**
   * Credentials by name, passed as OEM strings of SMBIOS, in systemd's format. After a boot (`reset`) the
   * guest has them as files in `GUEST_CREDENTIALS`, as a unit of systemd has them in `$CREDENTIALS_DIRECTORY`. Default none.
   */
  readonly credentials?: Readonly<Record<string, Buffer>>;
  /** Default 1. */
  readonly processors?: number;
  /** The contents of the guest. Default: busybox and the built vproxy (initramfs.ts). */
  readonly system?: GuestSystem;
}

/** A system to boot; guests with the same one start from its state. */
export interface GuestSystem {
  readonly name: string;
  /** Writes the root archive for the kernel to `path`; its `/init` must start the agent, or say hello in its place. */
  readonly writeArchive: (path: string, tools: Tools) => void;
  /** The folder of its states; without one, each guest boots. */
  readonly stateFolder?: string;
  readonly memoryMiB: number;
  /** The credentials that it has from its first boot on. */
  readonly credentials?: Readonly<Record<string, Buffer>>;
  /** A command that exits when the boot is complete. Default: none. */
  readonly untilBooted?: string;
}

/** Prepares what must exist before QEMU starts, in the guest's folder or elsewhere, and returns the options of the guest. */
export type GuestPlan = (folder: string) => GuestOptions | Promise<GuestOptions>;
