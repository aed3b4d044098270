/** The options of a guest: other ways into it than the socket of a virtio-serial port. */

/** The name of the port under test where a test names no other. */
export const PORT_NAME = 'org.vproxy.0';

import type { Tools } from './tools.js';

/** How a guest differs from the usual one. */
export interface GuestOptions {
  /** The name of the port under test. Default `PORT_NAME`. */
  readonly portName?: string;
  /**
   * What QEMU has at the host's end of that port: the value of `-chardev`, without an id. Default: a unix socket at
   * `Guest.channelPath` on which QEMU listens.
   */
  readonly portChardev?: string;
  /** All words of QEMU for the port under test and its bus, in place of the usual ones. Default: the usual ones. */
  readonly portArguments?: readonly string[];
  /** Whether there is a second serial line, `/dev/ttyS1`, with its host's end at `Guest.serialPath`. Default false. */
  readonly hasSerialLine?: boolean;
  /**
   * Credentials by name, handed over as OEM strings of SMBIOS, in the form that systemd takes. The guest has them as files
   * in `GUEST_CREDENTIALS`, as a unit of systemd has them in `$CREDENTIALS_DIRECTORY`. Default none.
   */
  readonly credentials?: Readonly<Record<string, Buffer>>;
  /** Kernel modules to insert besides those of virtio-serial, each after those that it needs. Default none. */
  readonly modules?: readonly string[];
  /**
   * Writes the archive that the kernel unpacks as its root, and whose `/init` it runs, to `path`; it has to start the agent.
   * Default: the one of initramfs.ts.
   */
  readonly buildInitramfs?: (path: string, tools: Tools) => void;
  /**
   * A package of vproxy that is one file, on this machine: the guest has it as `GUEST_PACKAGE`, which the wrapper's name leads
   * to, and no other command line of vproxy. Default: that of the built project.
   */
  readonly packageFile?: string;
  /** Default 1024. */
  readonly memoryMiB?: number;
  /** How long a boot may take until the agent answers, in milliseconds. Default 90,000. */
  readonly bootMs?: number;
}

/**
 * Prepares what must exist before QEMU starts, in the guest's folder or elsewhere, and returns the options of the
 * guest.
 */
export type GuestPlan = (folder: string) => GuestOptions | Promise<GuestOptions>;
