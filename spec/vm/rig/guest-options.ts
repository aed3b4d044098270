/** How a guest differs from the usual one. */
import type { Tools } from './tools.js';

/** The name of the port under test where a test names no other. */
export const PORT_NAME = 'org.vproxy.0';

/** The options of a guest. */
export interface GuestOptions {
  /** The name of the port under test. Default `PORT_NAME`. */
  readonly portName?: string;
  /** All words of QEMU for the ports under test and their buses, in place of the usual ones. Default: the usual ones. */
  readonly portArguments?: readonly string[];
  /**
   * Credentials by name, handed over as OEM strings of SMBIOS, in the form that systemd takes. From a boot on (`reset`) the
   * guest has them as files in `GUEST_CREDENTIALS`, as a unit of systemd has them in `$CREDENTIALS_DIRECTORY`. Default none.
   */
  readonly credentials?: Readonly<Record<string, Buffer>>;
  /** Default 1. */
  readonly processors?: number;
  /** What the guest is made of. Default: busybox and the built vproxy (initramfs.ts). */
  readonly system?: GuestSystem;
}

/** What is booted, which guests with the same one start from. */
export interface GuestSystem {
  readonly name: string;
  /** Writes the archive that the kernel unpacks as its root, and whose `/init` it runs, to `path`; it has to start the agent. */
  readonly writeArchive: (path: string, tools: Tools) => void;
  /** Where states of it are kept. */
  readonly stateFolder: string;
  readonly memoryMiB: number;
  /** It has these from its first boot on. */
  readonly credentials?: Readonly<Record<string, Buffer>>;
  /** A command that ends when the boot is over. Default: none. */
  readonly untilBooted?: string;
}

/** Prepares what must exist before QEMU starts, in the guest's folder or elsewhere, and returns the options of the guest. */
export type GuestPlan = (folder: string) => GuestOptions | Promise<GuestOptions>;
